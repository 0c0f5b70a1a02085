"""Rows on their way from the order of the ledger to the order of the plan, in bounded memory."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import RunError

WAITING_BYTES = 16 * 2**20
"""What may wait in memory; beyond it, what waits goes to a local folder."""
_PLACE = "place in the dataset"


class Shelf:
    """Keeps the rows of groups that are not complete yet: in memory, and beyond a limit in files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[int, list[pa.Table]] = {}
        self._files: dict[int, list[Path]] = {}
        self._arrived: dict[int, int] = {}
        self._held = 0
        self._named = 0

    def put(self, group: int, rows: pa.Table) -> None:
        """Take some rows of a group."""
        self._waiting.setdefault(group, []).append(rows)
        self._arrived[group] = self.arrived(group) + rows.num_rows
        self._held += rows.nbytes
        if self._held > WAITING_BYTES:
            self._spill()

    def arrived(self, group: int) -> int:
        """Return how many rows of a group lie here."""
        return self._arrived.get(group, 0)

    def take(self, group: int) -> pa.Table:
        """Hand out the rows of a group, in the order they came in, and forget them."""
        waiting, files = self._waiting.pop(group, []), self._files.pop(group, [])
        self._held -= sum(table.nbytes for table in waiting)
        del self._arrived[group]
        tables = [*map(_read, files), *waiting]
        for path in files:
            path.unlink()
        return pa.concat_tables(tables)

    def _spill(self) -> None:
        for group, tables in self._waiting.items():
            path = self._folder / f"{self._named:08d}.arrow"
            self._named += 1
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, tables[0].schema) as file:
                file.write_table(pa.concat_tables(tables).combine_chunks())
            self._files.setdefault(group, []).append(path)
        self._waiting, self._held = {}, 0


def in_plan_order(
    tables: Iterable[pa.Table], rows: NDArray[np.int64], sizes: Sequence[int], folder: Path
) -> Iterator[pa.Table]:
    """Yield the chosen rows of a ledger in plan order, in groups of the given sizes, each in one chunk.

    tables hold the rows of the ledger; rows numbers, in plan order, those that are wanted, counted from the
    ledger's first. A row may come at any time: what waits for it takes WAITING_BYTES of memory, and room in
    folder. RunError when the tables end too early.
    """
    order = np.argsort(rows)
    wanted, ends = rows[order], np.cumsum(sizes)
    shelf, due, begin = Shelf(folder), 0, 0
    for table in tables:
        first, last = np.searchsorted(wanted, (begin, begin + table.num_rows))
        _put(shelf, table, wanted[first:last] - begin, order[first:last], ends)
        begin += table.num_rows
        while due < len(sizes) and shelf.arrived(due) == sizes[due]:
            yield _sorted(shelf.take(due))
            due += 1
    if due < len(sizes):
        raise RunError("ledger: lost rows while its dataset was written; run the same command again")


def _put(
    shelf: Shelf, table: pa.Table, rows: NDArray[np.int64], places: NDArray[np.int64], ends: NDArray[np.int64]
) -> None:
    """Put rows of a table, given with their places in the dataset, to their groups."""
    if not len(rows):
        return
    turn = np.argsort(places)
    rows, places = rows[turn], places[turn]
    taken = table.take(pa.array(rows)).append_column(_PLACE, pa.array(places))
    groups, starts = np.unique(np.searchsorted(ends, places, side="right"), return_index=True)
    stops = [*starts[1:].tolist(), len(rows)]
    for group, start, stop in zip(groups.tolist(), starts.tolist(), stops, strict=True):
        shelf.put(group, taken.slice(start, stop - start))


def _sorted(table: pa.Table) -> pa.Table:
    # Taken from one chunk: the bytes that are written then do not tell in which pieces the rows came.
    turn = np.argsort(table[_PLACE].to_numpy())
    return table.drop_columns([_PLACE]).combine_chunks().take(pa.array(turn))


def _read(path: Path) -> pa.Table:
    with pa.OSFile(str(path), "rb") as source, pa.ipc.open_file(source) as file:
        return file.read_all()
