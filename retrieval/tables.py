"""Arrow tables as Parquet objects of a store."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.storage import Store

_GROUP_ROWS = 512
"""Rows of a row group: what the fetch of one document has to read and unpack."""


def write_table(store: Store, key: str, table: pa.Table) -> None:
    """Put a table into the store as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=_GROUP_ROWS)
    store.write(key, buffer.getvalue())


def read_table(store: Store, key: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a Parquet object of the store, or columns of it; StorageError names one that is damaged."""
    try:
        with pq.ParquetFile(store.fetch(key)) as file:
            return file.read(columns=list(columns) if columns is not None else None)
    except pa.ArrowException as error:
        raise StorageError(f"{store.url}/{key}: is damaged ({error}); remove it and run again") from error
