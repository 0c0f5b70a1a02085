"""The run ledger: immutable Parquet parts that hold every settled item, all rows of an item in one part."""

import io
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import LeaseLost, StorageError
from cluster.ids import SeenIds, pack
from cluster.lease import Lease, valid_parts
from cluster.storage import Store

COMPACT_PARTS = 64
COMPACT_ROWS = 20_000
"""A merged part has no more rows than this: it is read as a whole."""
READERS = 8
"""Parts that are read at a time when only some columns are wanted; most of it is waiting for the store."""
BATCH_ROWS = 8192
"""Rows of small parts that are looked at together."""


class Ledger:
    """Writes parts under one lease. The parts are the state: a crash costs only rows not yet committed."""

    def __init__(self, store: Store, lease: Lease, schema: pa.Schema) -> None:
        self.store = store
        self.lease = lease
        self.schema = schema
        self._folder = "ledger"
        self._last = 0
        self._loose: deque[tuple[int, int]] = deque()
        """Number and rows of the parts of this epoch that are not merged yet."""

    def begin(self, round: int) -> None:
        """Write to the folder of a round from now on; that of round 0 is `ledger/` itself."""
        folder = f"ledger/round-{round:03d}" if round else "ledger"
        if folder != self._folder:
            # What is loose in another folder stays as it is: parts of two rounds are not merged.
            self._folder, self._loose = folder, deque()

    def commit(self, batches: Sequence[pa.RecordBatch]) -> str:
        """Write the rows as one part and return its key; LeaseLost when another driver owns the run.

        The caller gives whole items only: a part never holds half an item.
        """
        self.lease.renew()
        table = pa.Table.from_batches(batches, schema=self.schema)
        self._last += 1
        key = f"{self._folder}/part-{self.lease.epoch:06d}-{self._last:06d}.parquet"
        if not self.store.create(key, _encode(table)):
            raise LeaseLost(f"{self.store.url}/{key}: was written by another driver of the same epoch")
        self._loose.append((self._last, table.num_rows))
        return key

    def compact(self) -> None:
        """Merge parts of this epoch once 64 lie there unmerged: 64 at a time, or 20,000 rows of them."""
        while len(self._loose) > COMPACT_PARTS:
            # Whoever takes the run over after this sees all these parts, merged or not; before it, none goes.
            self.lease.renew(force=True)
            group = self._group()
            if len(group) == 1:
                continue
            stem = f"{self._folder}/part-{self.lease.epoch:06d}-"
            parts = [f"{stem}{number:06d}.parquet" for number in group]
            merged = pa.concat_tables(_first_of_each([read_part(self.store, key)] for key in parts))
            # "+" sorts before ".", and readers leave out what a merged part covers: no row shows twice.
            self.store.create(f"{stem}{group[0]:06d}+{group[-1]:06d}.parquet", _encode(merged))
            for key in parts:
                self.store.delete(key)

    def _group(self) -> list[int]:
        """Take from the loose parts, the oldest first, those to merge into one; a large one stays alone."""
        group: list[int] = []
        rows = 0
        while self._loose and len(group) < COMPACT_PARTS:
            number, size = self._loose[0]
            if group and rows + size > COMPACT_ROWS:
                break
            self._loose.popleft()
            group.append(number)
            rows += size
        return group


def read_part(store: Store, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one part, or some columns of it; StorageError names a file that is no Parquet."""
    data = store.read(key)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return file.read(None if columns is None else list(columns), use_threads=columns is None)
    except (pa.ArrowException, OSError) as error:
        raise StorageError(f"{store.url}/{key}: is damaged ({error}); restore it or remove it") from error


def read_ledger(store: Store, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of all valid parts in name order; of an item found twice the first part is kept.

    With columns a table holds the rows of several small parts, and parts are read ahead.
    """
    keys = valid_parts(store)
    if columns is None:
        # Whole rows are large: one part at a time.
        yield from _first_of_each([read_part(store, key)] for key in keys)
    else:
        wanted = list(dict.fromkeys(["item_id", *columns]))
        yield from _first_of_each(_gathered(_read_ahead(store, keys, wanted)))


def _read_ahead(store: Store, keys: Iterable[str], columns: Sequence[str]) -> Iterator[pa.Table]:
    """Yield some columns of parts in order while the next ones are being read."""
    readers = ThreadPoolExecutor(READERS, thread_name_prefix="ledger")
    ahead: deque[Future[pa.Table]] = deque()
    try:
        for key in keys:
            ahead.append(readers.submit(read_part, store, key, columns))
            if len(ahead) > 2 * READERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        readers.shutdown(cancel_futures=True)


def _gathered(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield neighbouring tables together: small ones cost by the table, not by their rows."""
    batch: list[pa.Table] = []
    for table in tables:
        batch.append(table)
        if sum(each.num_rows for each in batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _first_of_each(batches: Iterable[Sequence[pa.Table]]) -> Iterator[pa.Table]:
    """Yield every batch of parts as one table, without the rows of items that an earlier part holds."""
    seen = SeenIds()
    for batch in batches:
        table = pa.concat_tables(batch)
        parts = np.repeat(np.arange(len(batch)), [part.num_rows for part in batch])
        again = seen.add(pack(pa.concat_arrays([pa.array([], pa.string()), *table["item_id"].chunks])), parts)
        yield table.filter(pa.array(~again)) if again.any() else table


def part_count(store: Store) -> int:
    """Return how many parts count."""
    return len(valid_parts(store))


def _encode(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
