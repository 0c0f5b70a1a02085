"""How an index is cut: parts of documents, and shards of whole parts."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

RowNumbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """Documents that are embedded and committed together: the unit that a crash can cost."""

    name: str
    rows: int

    @property
    def documents_key(self) -> str:
        """Parquet of the documents."""
        return f"documents/part-{self.name}.parquet"

    @property
    def vectors_key(self) -> str:
        """NumPy array of the vectors, float16, (rows, dimension), in the order of the documents."""
        return f"vectors/part-{self.name}.npy"


@dataclass(frozen=True, slots=True)
class Shard:
    """Consecutive parts that are searched together; rows of the shard are numbered from first_row."""

    number: int
    first_row: int
    parts: tuple[Part, ...]

    @property
    def rows(self) -> int:
        """How many documents it has."""
        return sum(part.rows for part in self.parts)


@dataclass(frozen=True, slots=True)
class Layout:
    """All parts in row order, and how many of them each shard has.

    A row is a document's number over the whole index, from 0.
    """

    parts: tuple[Part, ...]
    shard_parts: tuple[int, ...]

    @property
    def rows(self) -> int:
        """How many documents there are."""
        return sum(part.rows for part in self.parts)

    @property
    def shards(self) -> list[Shard]:
        """The shards in row order."""
        shards, first_part, first_row = [], 0, 0
        for number, count in enumerate(self.shard_parts):
            shard = Shard(number, first_row, self.parts[first_part : first_part + count])
            shards.append(shard)
            first_part, first_row = first_part + count, first_row + shard.rows
        return shards

    def locate(self, rows: RowNumbers) -> tuple[RowNumbers, RowNumbers]:
        """Return the number of the part that holds each row, and the row's position in it."""
        starts = np.array([0, *accumulate(part.rows for part in self.parts)], dtype=np.int64)
        parts = np.searchsorted(starts, rows, side="right") - 1
        return parts, rows - starts[parts]


def cut_shards(parts: Sequence[Part], shard_rows: int) -> tuple[int, ...]:
    """Return how many parts make each shard, so that all but the last hold at least shard_rows."""
    counts, held, rows = [], 0, 0
    for part in parts:
        held, rows = held + 1, rows + part.rows
        if rows >= shard_rows:
            counts.append(held)
            held, rows = 0, 0
    return (*counts, held) if held else tuple(counts)
