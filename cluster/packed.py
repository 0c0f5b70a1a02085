"""A hash table of millions of keys in flat arrays: 8 bytes a place, where a Python dict takes 150 a key.

It holds what a driver must know of every row of a run, for example the bands of their MinHash signatures.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

PARTS = 256
"""Tables it is made of. Each grows by itself: what is laid out anew at a time, and held twice, is small."""
FULLEST = 0.75
GROWTH = 1.4
"""Steps as small as the time for them allows: the share that stands empty stays small."""
_FIRST_SIZE = 64
_LOW = 0xFFFFFFFF
_HIGH = np.uint64(2**64 - 2**32)
_NOTHING: NDArray[np.uint64] = np.empty(0, np.uint64)


class PackedTable:
    """Maps keys to the number that each came with first.

    Keys are 64-bit hashes, of which the low 8 and the high 32 bits count: others that agree in these are
    taken for the same, n in 2**40 of n keys, so what is found has to be looked at by whoever asks.
    """

    def __init__(self) -> None:
        self._parts = [_Part(_FIRST_SIZE) for _ in range(PARTS)]
        self._full: set[int] = set()

    def __len__(self) -> int:
        return sum(part.used for part in self._parts)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(part.slots.nbytes for part in self._parts)

    def find(self, key: int) -> int | None:
        """Return the number of a key, None when it is not there."""
        part, mark = self._parts[key & 255], key >> 32
        slots, size = part.slots, part.size
        place = mark * size >> 32
        while slot := slots[place]:
            if slot >> 32 == mark:
                return (slot & _LOW) - 1
            place = place + 1 if place + 1 < size else 0
        return None

    def put(self, keys: Sequence[int], number: int) -> list[int]:
        """Put in up to 16 keys with a number below 2**32 - 1; return the numbers of those that are there.

        They keep theirs.
        """
        if self._full:
            self._widen()
        parts, found, fresh = self._parts, [], number + 1
        for key in keys:
            part, mark = parts[key & 255], key >> 32
            slots, size = part.slots, part.size
            place = mark * size >> 32
            while slot := slots[place]:
                if slot >> 32 == mark:
                    found.append((slot & _LOW) - 1)
                    break
                place = place + 1 if place + 1 < size else 0
            else:
                slots[place] = mark << 32 | fresh
                part.used += 1
                if part.used >= part.room:
                    self._full.add(key & 255)
        return found

    def take_back(self, keys: Sequence[int], number: int) -> None:
        """Undo a `put` with a number that no key had before, as long as there was none after it."""
        for key in reversed(keys):
            part, mark = self._parts[key & 255], key >> 32
            place = mark * part.size >> 32
            while (slot := part.slots[place]) and slot >> 32 != mark:
                place = place + 1 if place + 1 < part.size else 0
            if slot & _LOW == number + 1:
                part.slots[place] = 0
                part.used -= 1

    def put_fresh(self, keys: NDArray[np.uint64], numbers: NDArray[np.uint64]) -> None:
        """Put in many keys at once, arrays of one length; all differ, and none is there yet."""
        slots = (keys & _HIGH) | (numbers + np.uint64(1))
        parts = (keys & np.uint64(PARTS - 1)).astype(np.uint8)
        # Sorted once, so that each part takes a slice.
        slots = slots[np.argsort(parts, kind="stable")]
        ends = np.cumsum(np.bincount(parts, minlength=PARTS)).tolist()
        for number, (start, end) in enumerate(pairwise([0, *ends])):
            if start < end:
                self._parts[number] = self._parts[number].grown(slots[start:end])

    def _widen(self) -> None:
        """Give full parts more room. This waits for the next `put`, so that the last can be taken back."""
        for number in self._full:
            self._parts[number] = self._parts[number].grown(_NOTHING)
        self._full.clear()


class _Part:
    """Open addressing: a key stands at its place, or in the first empty one after it.

    A slot is the mark of a key, its high 32 bits, and below it the number and one; 0 when it is empty.
    """

    __slots__ = ("room", "size", "slots", "used")

    def __init__(self, size: int) -> None:
        self.size = size
        self.room = int(size * FULLEST)
        self.used = 0
        # Single elements of a memoryview are read in a third of the time that an array takes.
        self.slots = np.zeros(size, np.uint64).data

    def grown(self, more: NDArray[np.uint64]) -> "_Part":
        """Return a table with the same slots and some more, all laid out at once, and room for others."""
        old = np.asarray(self.slots)
        kept = np.concatenate([old[old != 0], more])
        larger = _Part(self.size if len(kept) < self.room else int(len(kept) / FULLEST * GROWTH))
        new = np.asarray(larger.slots)
        places = ((kept >> np.uint64(32)) * np.uint64(larger.size) >> np.uint64(32)).astype(np.int64)
        order = np.argsort(places)
        kept, turns = kept[order], np.arange(len(order))
        # Each stands at its place, or right behind the one before it.
        places = np.maximum.accumulate(places[order] - turns) + turns
        fits = places < larger.size
        new[places[fits]] = kept[fits]
        # Those beyond the end go on at the beginning.
        over = kept[~fits]
        new[np.flatnonzero(new == 0)[: len(over)]] = over
        larger.used = len(kept)
        return larger
