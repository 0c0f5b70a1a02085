"""Self-BLEU: how much each text repeats all the others, as NLTK scores it, in one pass over the tokens."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from synth.metrics.equal_numbers import beside_gold
from synth.metrics.linguistics import Tokens
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side
from synth.metrics.ngrams import Grams, Numbers, counted, longer, single, words_of

SMOOTHED = 0.1
"""What stands for no match (Chen and Cherry 2014, method 1, with NLTK's epsilon)."""
SHOWN = 5
"""Rows that are named as the most repeated."""

Scores = NDArray[np.float64]


class SelfBleu(MetricSettings):
    """How much rows repeat one another: the mean BLEU of each row against all others (0 to 1).

    Low is diverse. It grows with the number of texts, so only figures of equal `n` can be compared: ZeroGen,
    ProGen and TarGEN measure 1,000 rows, SynthesizRR its whole sample of 2,000 to 8,000.
    """

    name: ClassVar[str] = "self_bleu"

    orders: tuple[Annotated[int, Field(ge=1, le=20)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=1)
    """Longest n-grams counted: 5 is Self-BLEU-5, the mean over n-grams of one to five tokens."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Return the tokens of rows and gold, case kept."""
        return {"rows": (Tokens(),), "gold": (Tokens(),)}

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return `self_bleu` by order, the same of gold, and the rows with the most of the longest order."""
        rows, tokens = data.need_rows(), data.read(Tokens())
        scores = self._scores(tokens)
        most = np.argsort(-scores[:, -1], kind="stable")[:SHOWN]
        return {
            "n": len(rows),
            "self_bleu": self._means(scores),
            "most_repeated": [{"id": rows.ids[at], "score": float(scores[at, -1])} for at in most.tolist()],
            **beside_gold(data, Tokens(), lambda tokens: self._means(self._scores(tokens))),
        }

    def _scores(self, tokens: pa.ListArray) -> Scores:
        if len(tokens) < 2:
            raise NotComputed(f"it needs 2 texts at least, and there are {len(tokens)}")
        if not len(tokens.flatten()):
            raise NotComputed("no text has a token; look at the texts")
        return self_bleu(tokens, max(self.orders))

    def _means(self, scores: Scores) -> dict[str, float]:
        return {str(order): float(scores[:, order - 1].mean()) for order in sorted(self.orders)}


def self_bleu(tokens: pa.ListArray, highest: int = 5) -> Scores:
    """Return BLEU-1 to BLEU-highest of each text with all others as references: texts x orders, 0 to 1.

    tokens are lists of strings, of 2 texts at least. As NLTK's sentence_bleu with smoothing method1 and equal
    weights (Texygen, Zhu et al. 2018): matches are clipped to the most that one other text has, the brevity
    penalty goes by the other text closest in length, the shorter of two as close; a text that shares no token
    with any other scores 0, as does one without tokens.
    """
    words = words_of(tokens)
    matches, grams = np.zeros((len(tokens), highest)), single(words)
    for order in range(highest):
        if not grams.kinds:
            break
        matches[:, order], shared = _clipped(grams, len(tokens))
        grams = longer(grams, shared)
    there = np.maximum(1, words.lengths[:, None] - np.arange(highest))
    precisions = np.where(matches == 0, SMOOTHED, matches) / there
    means = np.cumsum(np.log(precisions), axis=1) / np.arange(1, highest + 1)
    scores = _brevity(words.lengths)[:, None] * np.exp(means)
    scores[matches[:, 0] == 0] = 0
    return np.asarray(scores)


def _clipped(grams: Grams, count: int) -> tuple[Scores, NDArray[np.bool_]]:
    """Return each text's matches in other texts, and which n-grams more than one text has."""
    ids, texts, counts = counted(grams, count)
    firsts = np.flatnonzero(np.diff(ids, prepend=-1))
    most = np.maximum.reduceat(counts, firsts)
    leads = counts == most[ids]
    leaders = np.add.reduceat(leads, firsts, dtype=np.int64)
    # Only the one text with the most of an n-gram can have more of it than any other.
    alone = leads & (leaders[ids] == 1)
    second = np.maximum.reduceat(np.where(alone, 0, counts), firsts)
    clipped = np.where(alone, second[ids], counts)
    shared = np.diff(firsts, append=len(ids)) > 1
    matches = np.bincount(texts, weights=clipped, minlength=count)
    return matches.astype(np.float64), shared[grams.ids]


def _brevity(lengths: Numbers) -> Scores:
    """Return each text's brevity penalty."""
    sizes, places, texts = np.unique(lengths, return_inverse=True, return_counts=True)
    gaps = np.diff(sizes).astype(np.float64)
    below, above = np.append(np.inf, gaps), np.append(gaps, np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        other = np.where(below <= above, sizes - below, sizes + above)
        closest = np.where(texts > 1, sizes, other)
        penalty = np.exp(np.minimum(0, 1 - closest / sizes))
    return np.asarray(np.where(sizes == 0, 0.0, penalty)[places])
