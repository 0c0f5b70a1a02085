"""Ids of 32 hexadecimal characters, packed into 16 bytes, and sets of millions of them."""

import re
from binascii import Error, hexlify, unhexlify
from hashlib import blake2b

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Halves = npt.NDArray[np.uint64]
"""Packed ids, shape (n, 2): the two halves of each."""
Mask = npt.NDArray[np.bool_]

WIDTH = 16
_HEX = re.compile(r"[0-9a-f]{32}")


def pack(column: pa.Array) -> Halves:
    """Pack a string array of ids without nulls; a string that is no such id is replaced by its hash."""
    offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, 4 * column.offset)
    text = bytes(memoryview(column.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])])
    try:
        packed = unhexlify(text)
    except Error:
        packed = b""
    if (np.diff(offsets) != 2 * WIDTH).any() or hexlify(packed) != text:
        packed = b"".join(_packed(name) for name in column.to_pylist())
    return np.frombuffer(packed, np.uint64).reshape(-1, 2)


def unpack(halves: Halves) -> str:
    """Return the id of one row of packed ids."""
    return halves.tobytes().hex()


class SeenIds:
    """A set of ids that grows by batches: 16 bytes an id."""

    def __init__(self) -> None:
        # Sorted runs, each at least twice as long as the next: few to look into, and cheap to keep so.
        self._runs: list[Halves] = []

    @property
    def nbytes(self) -> int:
        """Memory it takes."""
        return sum(run.nbytes for run in self._runs)

    def add(self, ids: Halves, parts: npt.NDArray[np.int64]) -> Mask:
        """Add ids; for each, say whether an earlier call had it, or a lower part of this one."""
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        ids, parts = ids[order], parts[order]
        first = _first(ids)
        unique = ids[first]
        seen = np.zeros(len(unique), np.bool_)
        for run in self._runs:
            seen |= _found(unique, run)
        begins = np.cumsum(first) - 1
        again = np.empty(len(ids), np.bool_)
        # A stable sort: of equal ids the first stands in the lowest part.
        again[order] = seen[begins] | (parts != parts[first][begins])
        self._keep(unique[~seen])
        return again

    def _keep(self, ids: Halves) -> None:
        if len(ids):
            # In columns, so that a search by the first half reads memory that lies together.
            self._runs.append(np.asfortranarray(ids))
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            both = np.concatenate(self._runs[-2:])
            self._runs[-2:] = [np.asfortranarray(both[np.argsort(both[:, 0], kind="stable")])]


def _packed(name: str) -> bytes:
    return bytes.fromhex(name) if _HEX.fullmatch(name) else blake2b(name.encode(), digest_size=WIDTH).digest()


def _first(ids: Halves) -> Mask:
    """Mark, of sorted ids, each that is not equal to the one before."""
    first = np.ones(len(ids), np.bool_)
    first[1:] = (ids[1:] != ids[:-1]).any(axis=1)
    return first


def _found(ids: Halves, run: Halves) -> Mask:
    """Say of each id whether a run, sorted by the first half, has it."""
    begins = np.searchsorted(run[:, 0], ids[:, 0])
    found = run[np.minimum(begins, len(run) - 1), 0] == ids[:, 0]
    for number in np.flatnonzero(found):
        # Ids that share a first half lie together, in no order.
        end = np.searchsorted(run[:, 0], ids[number, 0], side="right")
        found[number] = (run[begins[number] : end, 1] == ids[number, 1]).any()
    return found
