"""Near-duplicates by meaning: rows judged in plan order against the rows kept so far, by exact cosines.

The verdict on given vectors depends on nothing else: single precision finds the pairs, and those too close to
the border for it are multiplied again in double precision, where sums over unit vectors of half precision are
exact in any order, on any number of threads.

Memory: 2 bytes a dimension for every kept row, a million of 384 dimensions 770 MB, and some 40 MB beside.
Time: a million rows of 384 dimensions compared across all labels are 4e14 operations, an hour at 100 GFLOPS;
within each of n equal labels the n-th part of that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

HalfVectors = NDArray[np.float16]
Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

LOT = 1024
"""Rows judged together."""
_CHUNK = 4096
"""Kept rows that a lot is compared with at a time."""
_PAIRS = 8192
"""Pairs that are looked at again at a time."""
_GROWTH = 1.125
_ROUNDING = 2.0**-23
"""Error of a product of two unit vectors in single precision, at most, for each dimension."""
_SAME = 1e-9
"""What the length of a vector, which is a root, may be off."""
_ALL = ""


class Vectors(Protocol):
    """The vectors of a run's accepted rows, each at a place of its own."""

    @property
    def dimension(self) -> int:
        """Length of a vector; 0 when there is none."""

    def take(self, places: Numbers) -> HalfVectors:
        """Return the vectors at some places, shape (places, dimension)."""

    def locate(self, rows: pa.Table) -> Numbers:
        """Return the places of rows by their `row_id` and `text_hash`; RunError when one has no vector."""


@dataclass(frozen=True, slots=True)
class Meanings:
    """What rows mean, and how much alike is too much."""

    vectors: Vectors
    similarity: float
    across_labels: bool = False


class Lot:
    """Some rows next to each other in plan order, compared with each other and with all rows kept before."""

    def __init__(self, kept: "KeptMeanings", vectors: HalfVectors, groups: Sequence[Sequence[str]]) -> None:
        self._kept = kept
        self._vectors = vectors
        self._groups = groups
        members = _members(groups)
        self._cast_out = np.zeros(len(groups), np.bool_)
        self._alike = np.zeros((len(groups), len(groups)), np.bool_)
        for group, mine in members.items():
            self._cast_out[mine] |= kept.near(group, vectors[mine])
            # A row is compared with those before it alone.
            within = np.tril(np.ones((len(mine), len(mine)), np.bool_), -1)
            self._alike[np.ix_(mine, mine)] |= alike(vectors[mine], vectors[mine], kept.similarity, within)
        self._in = np.zeros(len(groups), np.bool_)

    def twin(self, number: int) -> bool:
        """Say whether a row of the lot means the same as a row that was kept before it."""
        return bool(self._cast_out[number] or (self._alike[number] & self._in).any())

    def keep(self, number: int) -> None:
        """Take note that a row of the lot is kept."""
        self._in[number] = True

    def close(self) -> None:
        """Hand the rows that are kept on, for the lots to come."""
        for group, mine in _members(self._groups).items():
            self._kept.add(group, self._vectors[mine[self._in[mine]]])


class KeptMeanings:
    """The vectors of kept rows, those of a label together; a row of several labels stands with each."""

    def __init__(self, similarity: float, across_labels: bool) -> None:
        self.similarity = similarity
        self._across_labels = across_labels
        self._rows: dict[str, HalfVectors] = {}
        self._counts: dict[str, int] = {}

    def lot(self, vectors: HalfVectors, labels: Sequence[Sequence[str]]) -> Lot:
        """Compare the next rows in plan order, given by vectors, shape (rows, dimension), and labels."""
        return Lot(self, vectors, [(_ALL,)] * len(labels) if self._across_labels else labels)

    def near(self, group: str, vectors: HalfVectors) -> Mask:
        """Say of each vector whether a kept one of the group is too much like it."""
        found = np.zeros(len(vectors), np.bool_)
        for start in range(0, self._counts.get(group, 0), _CHUNK):
            others = self._rows[group][start : min(start + _CHUNK, self._counts[group])]
            found |= alike(vectors, others, self.similarity).any(axis=1)
        return found

    def add(self, group: str, vectors: HalfVectors) -> None:
        """Keep vectors."""
        if not len(vectors):
            return
        count = self._counts.get(group, 0)
        total = count + len(vectors)
        if group not in self._rows:
            self._rows[group] = np.empty((total, vectors.shape[1]), np.float16)
        elif total > len(self._rows[group]):
            # In place where the system can: nothing else holds on to these bytes.
            self._rows[group].resize((int(total * _GROWTH) + 1, vectors.shape[1]), refcheck=False)
        self._rows[group][count:total] = vectors
        self._counts[group] = total


def alike(vectors: HalfVectors, others: HalfVectors, similarity: float, among: Mask | None = None) -> Mask:
    """Say which pairs have at least a cosine: shape (vectors, others); with among, only pairs it marks."""
    if not len(vectors) or not len(others):
        return np.zeros((len(vectors), len(others)), np.bool_)
    left, right = _lengths(vectors), _lengths(others)
    cosines = vectors.astype(np.float32) @ others.astype(np.float32).T
    slack = _ROUNDING * vectors.shape[1] * left.max() * right.max() + _SAME
    pairs: Mask = cosines >= similarity * left.min() * right.min() - slack
    if among is not None:
        pairs &= among
    if not pairs.any():
        return pairs
    sure = cosines > similarity * left.max() * right.max() + slack
    rows, columns = np.nonzero(pairs & ~sure)
    for start in range(0, len(rows), _PAIRS):
        some, with_these = rows[start : start + _PAIRS], columns[start : start + _PAIRS]
        products = vectors[some].astype(np.float64) * others[with_these].astype(np.float64)
        lengths = left[some] * right[with_these]
        pairs[some, with_these] = (products.sum(axis=1) >= similarity * lengths - _SAME) & (lengths > 0)
    return pairs


def _lengths(vectors: HalfVectors) -> NDArray[np.float64]:
    return np.sqrt(np.square(vectors.astype(np.float64)).sum(axis=1))


def _members(groups: Iterable[Sequence[str]]) -> Mapping[str, Numbers]:
    """Return the numbers of the rows of each group."""
    members: dict[str, list[int]] = {}
    for number, names in enumerate(groups):
        for name in names:
            members.setdefault(name, []).append(number)
    return {name: np.array(numbers, np.int64) for name, numbers in members.items()}
