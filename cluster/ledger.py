"""The run ledger: immutable Parquet parts that hold every settled item, all rows of an item in one part."""

import io
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import LeaseLost, StorageError
from cluster.lease import Lease, valid_parts
from cluster.storage import Store

COMPACT_PARTS = 64


class Ledger:
    """Writes parts under one lease. The parts are the state: a crash costs only rows not yet committed."""

    def __init__(self, store: Store, lease: Lease, schema: pa.Schema) -> None:
        self.store = store
        self.lease = lease
        self.schema = schema
        self._last = 0
        self._compacted = 0

    def commit(self, batches: Sequence[pa.RecordBatch]) -> str:
        """Write the rows as one part and return its key; LeaseLost when another driver owns the run.

        The caller gives whole items only: a part never holds half an item.
        """
        self.lease.renew()
        table = pa.Table.from_batches(batches, schema=self.schema)
        self._last += 1
        key = f"ledger/part-{self.lease.epoch:06d}-{self._last:06d}.parquet"
        if not self.store.create(key, _encode(table)):
            raise LeaseLost(f"{self.store.url}/{key}: was written by another driver of the same epoch")
        return key

    def compact(self) -> None:
        """Merge the parts of this epoch, 64 at a time, once so many lie there unmerged."""
        while self._last - self._compacted > COMPACT_PARTS:
            # Whoever takes the run over after this sees all these parts, merged or not; before it, none goes.
            self.lease.renew(force=True)
            first, last = self._compacted + 1, self._compacted + COMPACT_PARTS
            stem = f"ledger/part-{self.lease.epoch:06d}-"
            parts = [f"{stem}{number:06d}.parquet" for number in range(first, last + 1)]
            merged = pa.concat_tables(_first_of_each(read_part(self.store, key) for key in parts))
            # "+" sorts before ".", and readers leave out what a merged part covers: no row shows twice.
            self.store.create(f"{stem}{first:06d}+{last:06d}.parquet", _encode(merged))
            self._compacted = last
            for key in parts:
                self.store.delete(key)


def read_part(store: Store, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part, or some columns of it; StorageError names a file that is no Parquet."""
    try:
        return pq.read_table(io.BytesIO(store.read(key)), columns=list(columns) if columns else None)
    except pa.ArrowInvalid as error:
        raise StorageError(f"{store.url}/{key}: is damaged ({error}); restore it or remove it") from error


def read_ledger(store: Store, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of every valid part in name order; of an item found twice the first part is kept."""
    wanted = None if columns is None else list(dict.fromkeys(["item_id", *columns]))
    yield from _first_of_each(read_part(store, key, wanted) for key in valid_parts(store))


def _first_of_each(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables without the rows of items that an earlier one holds."""
    seen: set[str] = set()
    for table in tables:
        ids = set(table["item_id"].to_pylist())
        twice = ids & seen
        seen |= ids
        if twice:
            again = pc.is_in(table["item_id"], value_set=pa.array(sorted(twice), pa.string()))
            yield table.filter(pc.invert(again))
        else:
            yield table


def part_count(store: Store) -> int:
    """Return how many parts count."""
    return len(valid_parts(store))


def _encode(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
