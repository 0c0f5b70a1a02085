"""The text nearest by Rouge-L, with the longest common subsequences of many texts found at once."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from synth.metrics.ngrams import Numbers

BLOCK_BITS = 1 << 14
"""About how many tokens are looked through at a time; no figure depends on it."""

Scores = NDArray[np.float64]


def nearest(texts: Sequence[Numbers], others: Sequence[Numbers] | None = None) -> tuple[Scores, Numbers]:
    """Return the highest Rouge-L F1 of each text with any of others, and the place of the first that has it.

    Without others, the texts are compared with one another. Texts without tokens are near to nothing: where
    there is nothing to be near to, the score is NaN and the place -1.
    """
    best, places = np.full(len(texts), np.nan), np.full(len(texts), -1)
    tokens = [text.tolist() for text in texts]
    compared = texts if others is None else others
    for members in _blocks(compared):
        block = _Block([compared[place] for place in members])
        for at, text in enumerate(tokens):
            if not text:
                continue
            scores = 2 * block.common(text) / (block.lengths + len(text))
            if others is None:
                scores[members == at] = np.nan
            if np.isnan(scores).all():
                continue
            top = int(np.nanargmax(scores))
            if not scores[top] <= best[at]:
                best[at], places[at] = scores[top], members[top]
    return best, places


def _blocks(texts: Sequence[Numbers]) -> Iterator[Numbers]:
    """Yield the places of texts that have tokens, some at a time."""
    lengths = np.array([len(text) for text in texts], np.int64)
    said = np.flatnonzero(lengths)
    ends = np.cumsum(lengths[said] + 1) // BLOCK_BITS
    yield from np.split(said, np.flatnonzero(np.diff(ends)) + 1) if len(said) else ()


class _Block:
    """Texts that a text is compared with all at once: each has a bit for each token, and one bit after them.

    Bit-parallel longest common subsequence (Hyyrö 2004), on one whole number for all texts of the block: a
    carry out of a text ends in the bit after it, which is cleared.
    """

    def __init__(self, texts: Sequence[Numbers]) -> None:
        self.lengths = np.array([len(text) for text in texts], np.int64)
        self._starts = np.append(0, np.cumsum(self.lengths + 1)[:-1])
        self._bytes = (int(self._starts[-1]) + int(self.lengths[-1])) // 8 + 1
        self._places: dict[int, int] = {}
        for start, text in zip(self._starts.tolist(), texts, strict=True):
            for place, token in enumerate(text.tolist(), start):
                self._places[token] = self._places.get(token, 0) | 1 << place
        self._tokens = 0
        for places in self._places.values():
            self._tokens |= places

    def common(self, text: Sequence[int]) -> Numbers:
        """Return the length of the longest common subsequence of a text and each text of the block."""
        free, tokens, places = self._tokens, self._tokens, self._places
        for token in text:
            if token in places:
                found = free & places[token]
                free = ((free + found) | (free ^ found)) & tokens
        bits = np.frombuffer(free.to_bytes(self._bytes, "little"), np.uint8)
        left = np.add.reduceat(np.unpackbits(bits, bitorder="little"), self._starts, dtype=np.int64)
        return np.asarray(self.lengths - left)
