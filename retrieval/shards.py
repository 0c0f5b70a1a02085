"""One FAISS shard: built from the vectors of its partitions, searched, and looked into for documents."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.documents import DOCUMENT_SCHEMA
from retrieval.embedding import read_vectors
from retrieval.encoder import Vectors
from retrieval.manifest import documents_key, shard_key
from retrieval.partitions import read_table

Scores = npt.NDArray[np.float32]
RowNumbers = npt.NDArray[np.int64]


def build_shard(store: Store, shard: int, partitions: Sequence[int]) -> tuple[int, int]:
    """Put the vectors of partitions, in order, into an exact inner-product index; return rows, dimension."""
    import faiss

    index: Any = None
    for partition in partitions:
        vectors = read_vectors(store, partition)
        if index is None:
            index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
    store.write(shard_key(shard), faiss.serialize_index(index).tobytes())
    return int(index.ntotal), int(index.d)


def search_shard(
    store: Store, shard: int, first_row: int, queries: Vectors, top_k: int
) -> tuple[Scores, RowNumbers]:
    """Return scores and row numbers of the corpus, both (queries, at most top_k), best first."""
    index = _loaded(str(store.fetch(shard_key(shard))))
    if index.d != queries.shape[1]:
        raise DataError(
            f"{store.url}: holds vectors of {index.d} dimensions, the encoder makes {queries.shape[1]}; "
            "build the index anew with this encoder"
        )
    scores, rows = index.search(np.ascontiguousarray(queries), min(top_k, index.ntotal))
    return scores, rows + first_row


def take_documents(store: Store, rows: Sequence[int], partition_rows: int) -> pa.Table:
    """Return the documents of row numbers, which must ascend, in their order."""
    numbers = np.asarray(rows, dtype=np.int64)
    partitions = numbers // partition_rows
    taken = []
    for partition in np.unique(partitions):
        table = read_table(store, documents_key(int(partition)), DOCUMENT_SCHEMA.names)
        taken.append(table.take(pa.array(numbers[partitions == partition] % partition_rows)))
    return pa.concat_tables(taken)


def merge(found: Sequence[tuple[Scores, RowNumbers]], top_k: int) -> tuple[Scores, RowNumbers]:
    """Merge what shards found into the best top_k of each query; equal scores go in row order."""
    scores = np.concatenate([part for part, _ in found], axis=1)
    rows = np.concatenate([part for _, part in found], axis=1)
    order = np.lexsort((rows, -scores), axis=1)[:, :top_k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


@lru_cache(maxsize=2)
def _loaded(path: str) -> Any:
    import faiss

    return faiss.read_index(path)
