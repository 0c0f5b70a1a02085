"""Cut a corpus into partitions of documents, as Parquet in the index folder."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Store
from retrieval.corpus import read_documents
from retrieval.documents import Document, to_table
from retrieval.manifest import documents_key
from retrieval.settings import CorpusSettings

_COMPLETE = "documents.json"


def cut_corpus(
    store: Store, corpus: CorpusSettings, partition_rows: int, progress: Callable[[str, int, int], None]
) -> int:
    """Write the corpus as partitions and return its number of documents; done already: return at once.

    It runs in the driver, because a corpus may lie where only the driver sees it, and holds one partition
    and the ids at a time.
    """
    if store.exists(_COMPLETE):
        return int(json.loads(store.read(_COMPLETE))["rows"])
    rows = 0
    for number, documents in enumerate(_batches(read_documents(corpus), partition_rows)):
        write_table(store, documents_key(number), to_table(documents))
        rows += len(documents)
        progress("read", rows, rows)
    store.write(_COMPLETE, json.dumps({"rows": rows}).encode())
    return rows


def write_table(store: Store, key: str, table: pa.Table) -> None:
    """Put a table into the store as one Parquet object."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    store.write(key, buffer.getvalue())


def read_table(store: Store, key: str, columns: list[str]) -> pa.Table:
    """Read columns of a Parquet object of the store."""
    with pq.ParquetFile(store.fetch(key)) as file:
        return file.read(columns=columns)


def _batches(documents: Iterable[Document], size: int) -> Iterator[list[Document]]:
    iterator = iter(documents)
    while batch := list(islice(iterator, size)):
        yield batch
