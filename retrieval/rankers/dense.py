"""Dense retrieval: the nearest vectors by inner product, which are cosines where the encoder normalises."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import numpy as np

from cluster.errors import DataError
from cluster.models import resolve_model
from retrieval.encoder import shared_encoder
from retrieval.fanout import ClusterSearch
from retrieval.layout import RowNumbers
from retrieval.manifest import Index
from retrieval.rank import Filter, Scores
from retrieval.remote import own_errors
from retrieval.settings import EncoderSettings
from retrieval.vectors import Vectors

_BLOCK = 4096
"""Texts that one task embeds: enough to be worth a worker that loads the encoder first."""


class DenseRanker:
    """Ranks documents by the inner product of their vectors with the query's.

    The caller has connected to Ray. Errors: DataError for an index without vectors, or if the encoder is
    another one by now.
    """

    def __init__(self, index: Index) -> None:
        self._encoder = index.encoder
        self._revision = index.manifest.encoder_revision
        self._structure = index.structure
        self._search = ClusterSearch(index.store, index.layout)

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        """Return scores and rows, both (queries, at most top_k), best first, padded with -inf and NO_ROW."""
        if not queries:
            return np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.int64)
        return await self.rank_vectors(await self.embed(queries, "query"), top_k, allowed)

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"]) -> Vectors:
        """Return a vector for each text, shape (texts, dimension), with the encoder of the index.

        Texts are embedded as this kind of the encoder's family, as many blocks at once as there are nodes.
        """
        free = asyncio.Semaphore(_nodes())

        async def encoded(block: Sequence[str]) -> Vectors:
            async with free:
                with own_errors():
                    vectors: Vectors = await _encode().remote(self._encoder, self._revision, block, kind)
            return vectors

        starts = range(0, max(1, len(texts)), _BLOCK)
        return np.concatenate(await asyncio.gather(*(encoded(list(texts[n : n + _BLOCK])) for n in starts)))

    async def rank_vectors(
        self, vectors: Vectors, top_k: int, allowed: Filter | None = None
    ) -> tuple[Scores, RowNumbers]:
        """Rank for queries that are vectors, shape (queries, dimension), as `rank` does for texts."""
        return await asyncio.to_thread(
            self._search.rank, self._structure, vectors, top_k, allowed or Filter()
        )


def encode_texts(
    settings: EncoderSettings,
    revision: str,
    texts: Sequence[str],
    kind: Literal["document", "query"] = "query",
) -> Vectors:
    """Encode texts in a worker, which keeps the encoder for the next call."""
    here = resolve_model(settings.model).revision
    if here != revision:
        raise DataError(
            f"encoder.model {settings.model}: the index was built with revision {revision} of it, here is "
            f"{here}; build the index anew, or put that revision back"
        )
    return shared_encoder(settings).encode(texts, kind)


@cache
def _encode() -> Any:
    import ray

    # On a CPU: the GPUs are the teachers', and this worker would keep a part of one. No core is asked for
    # either, because teachers may hold them all.
    return ray.remote(
        num_cpus=0, scheduling_strategy="SPREAD", runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": ""}}
    )(encode_texts)


def _nodes() -> int:
    import ray

    return max(1, sum(node["Alive"] for node in ray.nodes()))
