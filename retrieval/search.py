"""Search: encode queries, search all shards, merge, and fetch the documents."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np

from retrieval.documents import Document, Hit, from_table
from retrieval.encoder import Vectors, shared_encoder
from retrieval.manifest import Index
from retrieval.remote import FAISS_ENVIRONMENT, own_errors
from retrieval.settings import EncoderSettings, RetrieverSettings
from retrieval.shards import RowNumbers, Scores, merge, search_shard, take_documents


class Retriever(Protocol):
    """Fetches documents for queries."""

    @property
    def band(self) -> tuple[float, float] | None:
        """Scores (low, high) between which a document grounds an example; None: use ranks only."""

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first."""


class DenseRetriever:
    """Nearest vectors by inner product: cosines, for encoders that normalise. The caller has connected."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @property
    def band(self) -> tuple[float, float] | None:
        """The encoder preset's band of similarity."""
        return self._index.encoder.family.band

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first; the same as an exhaustive comparison."""
        if not queries:
            return []
        with own_errors():
            # On a CPU: the GPUs are the teachers', and this worker would keep a part of one.
            encode = _task(encode_queries).options(runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": ""}})
            vectors = encode.remote(self._index.encoder, list(queries))
            scores, rows = await self._nearest(vectors, top_k)
            documents = await self._documents(np.unique(rows))
        return [
            [
                Hit(documents[row], rank, score)
                for rank, (row, score) in enumerate(zip(*ranked, strict=True), 1)
            ]
            for ranked in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    async def _nearest(self, vectors: Any, top_k: int) -> tuple[Scores, RowNumbers]:
        """Search every shard; vectors may be a reference to them in the object store."""
        layout = self._index.layout
        search = _task(search_shard, faiss=True)
        found = [
            search.remote(self._index.store, shard, parts.start * layout.partition_rows, vectors, top_k)
            for shard, parts in enumerate(layout.shards)
        ]
        return merge(await asyncio.gather(*found), top_k)

    async def _documents(self, rows: RowNumbers) -> dict[int, Document]:
        layout = self._index.layout
        take = _task(take_documents)
        shard_rows = len(layout.shards[0]) * layout.partition_rows
        groups = [rows[rows // shard_rows == shard].tolist() for shard in np.unique(rows // shard_rows)]
        tables = await asyncio.gather(
            *(take.remote(self._index.store, group, layout.partition_rows) for group in groups)
        )
        documents = [document for table in tables for document in from_table(table)]
        return dict(zip((row for group in groups for row in group), documents, strict=True))


_KINDS = {"dense": DenseRetriever}


def open_retriever(index: Index, settings: RetrieverSettings) -> Retriever:
    """Return the retriever that settings name over an index."""
    return _KINDS[settings.kind](index)


def encode_queries(settings: EncoderSettings, queries: Sequence[str]) -> Vectors:
    """Encode queries in a worker, which keeps the encoder for the next call."""
    return shared_encoder(settings).encode(queries, "query")


@cache
def _task(function: Callable[..., Any], faiss: bool = False) -> Any:
    import ray

    # No core is asked for: a search is short, and teachers may hold every core while it is wanted.
    environment = FAISS_ENVIRONMENT if faiss else None
    return ray.remote(num_cpus=0, scheduling_strategy="SPREAD", runtime_env=environment)(function)
