"""Documents by row and by id: only the row groups that hold them are read."""

import asyncio
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.storage import Store
from retrieval.documents import Document, from_table
from retrieval.ids import find_rows
from retrieval.layout import Layout, Part, RowNumbers
from retrieval.manifest import Index
from retrieval.remote import TRIES, own_errors

_TASKS_ON_A_NODE = 4
_HIDDEN = "key"
"""Column that only dropping duplicates needs."""


async def fetch_documents(index: Index, rows: RowNumbers) -> dict[int, Document]:
    """Return the documents of some rows, each read once, in a few Ray tasks a node."""
    import ray

    wanted = np.unique(rows)
    if not len(wanted):
        return {}
    nodes = sum(node["Alive"] for node in ray.nodes())
    shares = np.array_split(wanted, min(len(wanted), _TASKS_ON_A_NODE * max(1, nodes)))
    take = _task()
    with own_errors():
        tables = await asyncio.gather(*(take.remote(index.store, index.layout, share) for share in shares))
    documents = [document for table in tables for document in from_table(table)]
    return dict(zip(wanted.tolist(), documents, strict=True))


def document_by_id(index: Index, id: str) -> Document:
    """Return one document, read in this process; DataError when the index has none of this id."""
    return from_table(take_documents(index.store, index.layout, find_rows(index, [id])))[0]


def take_documents(store: Store, layout: Layout, rows: RowNumbers) -> pa.Table:
    """Return the documents of row numbers, which must ascend, in their order."""
    parts, positions = layout.locate(np.asarray(rows, dtype=np.int64))
    taken = [
        _from_part(store, layout.parts[number], positions[parts == number]) for number in np.unique(parts)
    ]
    return pa.concat_tables(taken)


def _from_part(store: Store, part: Part, positions: RowNumbers) -> pa.Table:
    try:
        with pq.ParquetFile(store.fetch(part.documents_key)) as file:
            sizes = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
            starts = np.array([0, *accumulate(sizes)], dtype=np.int64)
            groups = np.searchsorted(starts, positions, side="right") - 1
            columns = [name for name in file.schema_arrow.names if name != _HIDDEN]
            pieces = []
            for group in np.unique(groups):
                within = positions[groups == group] - starts[group]
                pieces.append(file.read_row_group(int(group), columns).take(pa.array(within)))
    except (pa.ArrowException, IndexError) as error:
        raise StorageError(
            f"{store.url}/{part.documents_key}: is damaged ({error}); remove the index folder, build it again"
        ) from error
    return pa.concat_tables(pieces)


@cache
def _task() -> Any:
    import ray

    # No core is asked for: teachers may hold every core while documents are wanted.
    return ray.remote(num_cpus=0, max_retries=TRIES, scheduling_strategy="SPREAD")(take_documents)
