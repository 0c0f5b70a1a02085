"""Near-duplicates across a whole run: the signatures of kept rows, found again by parts of them.

A signature is 64 bytes (`synth.filters.minhash`). Two rows with a share s of their words and word pairs in
common agree in about that share of bytes; they are compared when one of ten bands of six bytes is the same,
which happens with 72 % of pairs at s = 0.7, 95 % at 0.8 and 99.9 % at 0.9.
"""

from array import array
from collections.abc import Iterator
from math import ceil
from operator import eq
from struct import Struct

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.packed import PackedTable

Signatures = NDArray[np.uint8]
"""Packed signatures, shape (n, 64), zeros for none; (n, 0) where they were not asked for."""

WIDTH = 64
"""Bytes of a signature."""
BANDS = 10
_BANDS = Struct("<" + "IH" * BANDS)
_PLACES = tuple(band << 48 for band in range(BANDS))
_CHANCE = 1 / 256
"""Share of bytes in which signatures of unlike rows agree."""
_MIX, _WORD = 0x9E3779B97F4A7C15, 2**64 - 1
_NONE = bytes(WIDTH)
_LOT = 65_536


class NearRows:
    """The rows kept so far; of rows too much alike only the first is let in.

    A row takes 64 bytes for its signature and at most 150 for its bands. Of kept rows that share a band
    only the first is compared with: a crowd of similar rows costs no more than others.
    """

    def __init__(self, threshold: float) -> None:
        """Take the share, between 0 and 1, from which on rows are too much alike."""
        self._least = ceil(WIDTH * (threshold * (1 - _CHANCE) + _CHANCE) - 1e-9)
        self._rows = bytearray()
        self._count = 0
        self._table = PackedTable()
        self._aside: array[int] = array("I")
        """Numbers of rows that are not in the table yet: they are near to none of those that are known."""
        self._known_only = True

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return self._rows.__sizeof__() + self._table.nbytes + self._aside.itemsize * len(self._aside)

    def admit(self, signature: bytes, alone: bool | None = None) -> bool:
        """Keep a row unless it is too much like one that was kept; say whether it is kept.

        Of rows known from the start, `alone` is what the function of this name found of all of them: such a
        row needs not be looked for until one is admitted that was not known, of which it is None.
        """
        self._meet(alone)
        if alone and self._known_only:
            self._aside.append(self._count)
        elif not self._put(signature):
            return False
        self._rows += signature
        self._count += 1
        return True

    def holds(self, signature: bytes, alone: bool | None = None) -> bool:
        """Say whether a row is too much like one that was kept, as `admit` does, and keep nothing."""
        self._meet(alone)
        if alone and self._known_only:
            return False
        found = {self._table.find(key) for key in _keys(signature)}
        return any([self._agree(number, signature) for number in found if number is not None])

    def _meet(self, alone: bool | None) -> None:
        if alone is None and self._known_only:
            self._known_only = False
            self._put_aside_in()

    def _put(self, signature: bytes) -> bool:
        keys = _keys(signature)
        found = self._table.put(keys, self._count)
        if found and any([self._agree(number, signature) for number in set(found)]):
            self._table.take_back(keys, self._count)
            return False
        return True

    def _agree(self, number: int, signature: bytes) -> bool:
        start = number * WIDTH
        return sum(map(eq, self._rows[start : start + WIDTH], signature)) >= self._least

    def _put_aside_in(self) -> None:
        numbers = np.frombuffer(self._aside, np.uint32)
        step = max(_LOT, len(numbers) // 8)
        for start in range(0, len(numbers), step):
            lot = numbers[start : start + step].astype(np.uint64)
            rows = np.frombuffer(self._rows, np.uint8).reshape(-1, WIDTH)[lot]
            keys = [_hashed(rows, band) for band in range(BANDS)]
            self._table.put_fresh(np.concatenate(keys), np.tile(lot, BANDS))
        self._aside = array("I")


def alone(signatures: Signatures) -> NDArray[np.bool_]:
    """Say of each of many signatures whether it shares no band with any other of them."""
    shared = np.zeros(len(signatures), np.bool_)
    for band in range(BANDS if signatures.shape[1] else 0):
        keys = _hashed(signatures, band)
        order = np.argsort(keys)
        same = keys[order[1:]] == keys[order[:-1]]
        shared[order[1:][same]] = True
        shared[order[:-1][same]] = True
    return ~shared


def _keys(signature: bytes) -> list[int]:
    """Return a hash of each band and its number."""
    parts = _BANDS.unpack_from(signature)
    pairs = zip(_PLACES, parts[::2], parts[1::2], strict=True)
    return [(place | high << 32 | low) * _MIX & _WORD for place, low, high in pairs]


def _hashed(signatures: Signatures, band: int) -> NDArray[np.uint64]:
    """Return what `_keys` does, for one band of many signatures."""
    wide = np.zeros((len(signatures), 8), np.uint8)
    wide[:, :6] = signatures[:, 6 * band : 6 * band + 6]
    return (wide.view(np.uint64).ravel() | np.uint64(_PLACES[band])) * np.uint64(_MIX)


def packed(column: pa.ChunkedArray | None, rows: int) -> Signatures:
    """Pack a column of so many signatures and nulls; None when there is no such column.

    What is no signature of today's form counts as none.
    """
    if column is None:
        return np.zeros((rows, 0), np.uint8)
    fitting = pc.fill_null(pc.equal(pc.binary_length(column), WIDTH), False)
    whole = pc.if_else(fitting, column, pa.scalar(_NONE, column.type)).combine_chunks()
    data = (
        b"".join(whole.to_pylist()) if whole.offset else memoryview(whole.buffers()[2] or b"")[: rows * WIDTH]
    )
    return np.frombuffer(data, np.uint8).reshape(rows, WIDTH)


def unpacked(signatures: Signatures) -> Iterator[bytes | None]:
    """Yield each signature, None where there is none."""
    if not signatures.shape[1]:
        yield from [None] * len(signatures)
        return
    text = signatures.tobytes()
    for start in range(0, len(text), WIDTH):
        signed = text[start : start + WIDTH]
        yield signed if signed != _NONE else None
