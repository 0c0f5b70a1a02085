"""A hash table of 64-bit keys in two flat arrays: about 18 bytes a key, where a Python dict takes 150.

It holds what a driver must know of every row of a run, for example one band of their MinHash signatures.
"""

import numpy as np
from numpy.typing import NDArray

FULLEST = 0.75
GROWTH = 1.25
"""Small steps: the empty share stays small, and what is copied at once too."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
_LOW = np.uint64(32)
_EMPTY = np.uint32(0xFFFFFFFF)


class PackedTable:
    """Maps 64-bit keys to the number each came with first; works on whole arrays at a time."""

    def __init__(self, size: int = 1024) -> None:
        self._clear(size)

    def __len__(self) -> int:
        return self._used

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return int(self._keys.nbytes + self._numbers.nbytes)

    def put(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Put keys in and return for each the number it came with first, which may be its own.

        keys and numbers are arrays of one length, n; numbers lie below 2**32 - 1. Of equal keys in one call
        the first counts.
        """
        if self._used + len(keys) > FULLEST * len(self._keys):
            self._grow(self._used + len(keys))
        first = numbers.copy()
        places = self._places(keys)
        left = np.arange(len(keys))
        while left.size:
            here = places[left]
            vacant = self._numbers[here] == _EMPTY
            spots, claims = np.unique(here[vacant], return_index=True)
            claimants = left[vacant][claims]
            self._keys[spots], self._numbers[spots] = keys[claimants], numbers[claimants]
            self._used += len(spots)
            found = self._keys[here] == keys[left]
            first[left[found]] = self._numbers[here[found]]
            left = left[~found]
            places[left] = (places[left] + 1) % len(self._keys)
        return first

    def _places(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        size = np.uint64(len(self._keys))
        return (((keys * _MIX) >> _LOW) * size >> _LOW).astype(np.int64)

    def _grow(self, wanted: int) -> None:
        size = max(int(len(self._keys) * GROWTH), int(wanted / FULLEST) + 1)
        there = self._numbers != _EMPTY
        keys, numbers = self._keys[there], self._numbers[there]
        self._clear(size)
        self.put(keys, numbers)

    def _clear(self, size: int) -> None:
        self._keys: NDArray[np.uint64] = np.zeros(size, np.uint64)
        self._numbers: NDArray[np.uint32] = np.full(size, _EMPTY, np.uint32)
        self._used = 0
