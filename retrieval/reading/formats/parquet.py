"""Parquet, cut by row groups and read a thousand rows at a time."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.reading.damage import DAMAGE, refuse_damage
from retrieval.reading.places import open_file
from retrieval.reading.records import CorpusFile, Format, Piece, Refusal, Row, Rows, uncut

_BATCH_ROWS = 1024
_BUFFER = 1 << 20


def _rows(piece: Piece, columns: Sequence[str]) -> Rows:
    with _opened(piece.url) as file:
        stop = file.num_row_groups if piece.stop is None else piece.stop
        named = set(file.schema_arrow.names)
        # Without one of the columns all are read, so that a message can say what there is.
        wanted = [name for name in columns if name in named] if named.issuperset(columns) else None
        number = 0
        for group in range(piece.start, stop):
            try:
                yield from enumerate(_group(file, group, wanted), number + 1)
            except DAMAGE as error:
                # The others may be whole.
                yield 0, refuse_damage(piece.url, FORMAT, error, f" in row group {group + 1}")
            number += file.metadata.row_group(group).num_rows


def _group(file: pq.ParquetFile, group: int, columns: Sequence[str] | None) -> Iterator[Row | Refusal]:
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group], columns=columns):
        yield from batch_rows(batch)


def batch_rows(batch: pa.RecordBatch) -> Iterator[Row | Refusal]:
    """Yield the rows of a batch; one that holds bytes that are no text is refused."""
    try:
        yield from batch.to_pylist()
    except UnicodeDecodeError:
        for place in range(batch.num_rows):
            yield _row(batch.slice(place, 1))


def _row(batch: pa.RecordBatch) -> Row | Refusal:
    try:
        row: Row = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return Refusal("encoding", f"is not UTF-8 text ({error.reason}); mend the row")
    return row


@contextmanager
def _opened(url: str) -> Iterator[pq.ParquetFile]:
    # With a buffer a column is read as it is needed; without, a row group is held whole.
    with open_file(url) as data, pq.ParquetFile(data, buffer_size=_BUFFER) as file:
        yield file


def _cut(file: CorpusFile, target_bytes: int) -> list[tuple[int, int | None, int]]:
    if file.size <= target_bytes:
        return uncut(file, target_bytes)
    try:
        with _opened(file.url) as data:
            sizes = [data.metadata.row_group(n).total_byte_size for n in range(data.num_row_groups)]
    except (OSError, pa.ArrowException):
        # The task that reads it says what is wrong with it, or counts it.
        return uncut(file, target_bytes)
    return _grouped(sizes, target_bytes) or uncut(file, target_bytes)


def _grouped(sizes: Sequence[int], target_bytes: int) -> list[tuple[int, int | None, int]]:
    cuts: list[tuple[int, int | None, int]] = []
    start, held = 0, 0
    for number, size in enumerate(sizes):
        if number > start and held + size > target_bytes:
            cuts.append((start, number, held))
            start, held = number, 0
        held += size
    return [*cuts, (start, len(sizes), held)] if sizes else []


def _rows_before(piece: Piece) -> int:
    with _opened(piece.url) as file:
        return sum(file.metadata.row_group(number).num_rows for number in range(piece.start))


FORMAT = Format(
    "parquet",
    (".parquet",),
    _rows,
    _cut,
    _rows_before,
    damaged="is not a readable Parquet file ({reason}); write it anew",
)
