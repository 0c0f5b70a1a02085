"""Distinct n-grams and vocabulary: how many different words and turns of phrase the texts have."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from synth.metrics.equal_numbers import beside_gold
from synth.metrics.linguistics import Tokens
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side
from synth.metrics.ngrams import Words, counted, longer, single, words_of


class Distinct(MetricSettings):
    """Distinct-n, the distinct n-grams over all n-grams (Li et al. 2016), and the size of the vocabulary.

    High is diverse. Both depend on the number of texts: compare figures of equal `n`. The vocabulary comes in
    two ways: the distinct tokens of all texts; and TarGEN's, the sum over texts of the distinct tokens that
    are no stop words of spaCy's English list, in whatever case. As in its code punctuation counts; white
    space, which counts there, does not.
    """

    name: ClassVar[str] = "distinct"

    orders: tuple[Annotated[int, Field(ge=1, le=20)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=1)
    """Lengths of the n-grams counted."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Return the tokens of rows and gold, case kept."""
        return {"rows": (Tokens(),), "gold": (Tokens(),)}

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return `tokens`, `distinct` by order and `vocabulary`, and the same of gold."""
        rows = data.need_rows(1)
        return {
            "n": len(rows),
            **self._figures(data.read(Tokens())),
            **beside_gold(data, Tokens(), self._figures),
        }

    def _figures(self, tokens: pa.ListArray) -> dict[str, Any]:
        words = words_of(tokens)
        if not len(words.ids):
            raise NotComputed("no text has a token; look at the texts")
        shares = distinct(words, max(self.orders))
        said = _not_stopped(words).tolist()
        return {
            "tokens": len(words.ids),
            "distinct": {
                str(order): shares.get(order, {"not_computed": f"no text has {order} tokens"})
                for order in sorted(self.orders)
            },
            "vocabulary": {
                "types": len(words.vocabulary),
                "sum_over_texts": sum(said),
                "mean_of_texts": sum(said) / len(said),
            },
        }


def distinct(words: Words, highest: int) -> dict[int, float]:
    """Return distinct n-grams over n-grams for each order up to highest that some text is long enough for."""
    found, grams = {}, single(words)
    for order in range(1, highest + 1):
        all_of_them = int(np.maximum(0, words.lengths - order + 1).sum())
        if not all_of_them:
            break
        # Those left out have a part that occurs only here, and so each of them is a kind by itself.
        found[order] = (all_of_them - len(grams.ids) + grams.kinds) / all_of_them
        grams = longer(grams, np.bincount(grams.ids, minlength=grams.kinds)[grams.ids] > 1)
    return found


def _not_stopped(words: Words) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return for each text how many distinct tokens it has that are no stop words."""
    from spacy.lang.en.stop_words import STOP_WORDS

    stops = np.array([token.lower() in STOP_WORDS for token in words.vocabulary.to_pylist()], bool)
    ids, texts, _ = counted(single(words), len(words.lengths))
    return np.bincount(texts[~stops[ids]], minlength=len(words.lengths))
