"""N-grams of tokenised texts as whole numbers: equal n-grams have equal numbers, and nothing is hashed."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Words:
    """The tokens of texts: `ids` of all, text after text; `lengths` of the texts; `vocabulary` by id."""

    ids: Numbers
    lengths: Numbers
    vocabulary: pa.Array

    @property
    def texts(self) -> Numbers:
        """Return the text each token stands in."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)


@dataclass(frozen=True, slots=True)
class Grams:
    """N-grams of one order, in the order of the texts and of their places in them.

    `texts` are the texts they stand in, `starts` the places of their first tokens among the tokens of all
    texts; `ids` go from 0 to `kinds` - 1, and each id is there.
    """

    texts: Numbers
    starts: Numbers
    ids: Numbers
    kinds: int


def words_of(tokens: pa.ListArray) -> Words:
    """Number the distinct tokens of lists of strings, one list a text; no list and no string may be null."""
    encoded = tokens.flatten().dictionary_encode()
    ids = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return Words(
        ids, tokens.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary
    )


def single(words: Words) -> Grams:
    """Return the n-grams of one token."""
    return Grams(words.texts, np.arange(len(words.ids)), words.ids, len(words.vocabulary))


def longer(grams: Grams, keep: NDArray[np.bool_]) -> Grams:
    """Return the n-grams one token longer, where both parts, without the last and the first token, are kept.

    keep tells it for each of grams. What is left out is known by its parts: no n-gram occurs more often, or
    in more texts, than the n-grams inside it. Ids come from sorting the pairs of the ids of the parts.
    """
    kept = np.flatnonzero(keep)
    left, right = kept[:-1], kept[1:]
    joined = (grams.starts[right] == grams.starts[left] + 1) & (grams.texts[right] == grams.texts[left])
    left, right = left[joined], right[joined]
    pairs, ids = np.unique(grams.ids[left] * grams.kinds + grams.ids[right], return_inverse=True)
    return Grams(grams.texts[left], grams.starts[left], ids, len(pairs))


def counted(grams: Grams, texts: int) -> tuple[Numbers, Numbers, NDArray[Any]]:
    """Return, for each n-gram and each text that has it, the ids, the texts and how often; the ids ascend."""
    pairs, counts = np.unique(grams.ids * texts + grams.texts, return_counts=True)
    return pairs // texts, pairs % texts, counts
