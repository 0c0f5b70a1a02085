"""The documents that rows were written from, as a run folder keeps them, round by round."""

from collections.abc import Collection
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.storage import Store

_KEY = "sources/documents.parquet"


def document_tables(run: Store) -> list[str]:
    """Return the keys of the tables of documents, round by round; none where rows come from no document."""
    later = (key for key in run.list("rounds") if key.endswith(f"/{_KEY}"))
    return [*([_KEY] if run.exists(_KEY) else []), *sorted(later)]


def read_documents(run: Store, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return documents by id; those that the run folder does not hold lack."""
    found: dict[str, dict[str, Any]] = {}
    for key in document_tables(run) if ids else ():
        rows = pq.read_table(run.fetch(key), filters=pc.field("id").isin(sorted(ids))).to_pylist()
        found |= {row["id"]: row for row in rows}
    return found
