"""Search: rank documents for queries, apply the settings' limits, and fetch the documents."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from cluster.errors import DataError
from retrieval.documents import Hit
from retrieval.fetch import fetch_documents
from retrieval.layout import RowNumbers
from retrieval.manifest import Index
from retrieval.rank import NO_ROW, Filter, Ranker, Scores
from retrieval.rankers.bm25 import BM25Ranker
from retrieval.rankers.dense import DenseRanker
from retrieval.rankers.hybrid import HybridRanker
from retrieval.rankers.random import RandomRanker
from retrieval.settings import RetrieverSettings
from retrieval.sharing import Ranking, Sharing
from retrieval.vectors import Vectors

_RANKERS: dict[str, Callable[[Index, RetrieverSettings], Ranker]] = {
    "dense": lambda index, _: DenseRanker(index),
    "bm25": lambda index, _: BM25Ranker(index),
    "random": lambda index, settings: RandomRanker(index, settings.seed),
    "hybrid": lambda index, _: HybridRanker([DenseRanker(index), BM25Ranker(index)]),
}

_ENTRIES = 4_000_000
"""Entries of rankings held at once while documents are shared out: some 50 MB."""


class Retriever(Protocol):
    """Fetches documents for queries."""

    @property
    def band(self) -> tuple[float, float] | None:
        """Scores (low, high) between which a document grounds an example; None: use ranks only."""

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first."""

    @property
    def encodes(self) -> bool:
        """Whether documents are ranked by an encoder, which then embeds other texts too."""

    async def embed(self, texts: Sequence[str], as_queries: bool) -> Vectors:
        """Return a vector for each text, as a query or as a document; DataError without an encoder."""


class IndexRetriever:
    """The documents of one index, ranked as the settings say. The caller has connected to Ray."""

    def __init__(self, index: Index, settings: RetrieverSettings) -> None:
        unknown = [name for name in settings.where if name not in index.manifest.metadata]
        if unknown:
            known = ", ".join(index.manifest.metadata) or "none"
            raise DataError(
                f"retriever.where: index {index.manifest.name} has no metadata {unknown[0]!r} but {known}; "
                "name it in corpus.metadata and build the index"
            )
        self._index = index
        self._settings = settings
        self._allowed = Filter(settings.tokens, settings.where)
        self._ranker = _RANKERS[settings.kind](index, settings)
        self._dense = DenseRanker(index) if settings.kind in ("dense", "hybrid") else None

    @property
    def band(self) -> tuple[float, float] | None:
        """The settings' band of scores or, for dense retrieval, the encoder preset's."""
        if self._settings.band is not None or self._settings.kind != "dense":
            return self._settings.band
        return self._index.encoder.family.band

    @property
    def encodes(self) -> bool:
        """Whether documents are ranked by an encoder, alone or beside shared words."""
        return self._dense is not None

    async def embed(self, texts: Sequence[str], as_queries: bool) -> Vectors:
        """Return vectors, shape (texts, dimension), float32, whose inner products rank documents.

        Queries are embedded by the query side of the encoder's family and other texts by its document side,
        as the index's documents are: give `titled_text` of those. DataError for kinds without an encoder.
        """
        if self._dense is None:
            raise DataError(
                f"retriever.kind: {self._settings.kind} has no encoder to embed texts with; take dense or "
                "hybrid"
            )
        return await self._dense.embed(texts, "query" if as_queries else "document")

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first.

        Ranks count the documents that may be found and are not yet used up; the settings' band leaves gaps.
        """
        if not queries:
            return []
        rankings = await self._rankings(queries, top_k)
        low, high = self._band
        rows = [row for ranking in rankings for row, score in ranking if low <= score <= high]
        documents = await fetch_documents(self._index, np.array(rows, dtype=np.int64))
        return [
            [
                Hit(documents[row], rank, score)
                for rank, (row, score) in enumerate(ranking, 1)
                if low <= score <= high
            ]
            for ranking in rankings
        ]

    async def _rankings(self, queries: Sequence[str], top_k: int) -> list[Ranking]:
        depth = min(top_k, self._index.rows)
        if self._settings.reuse is None:
            scores, rows = await self._ranker.rank(queries, depth, self._allowed)
            return [_ranking(*ranked)[:top_k] for ranked in zip(scores, rows, strict=True)]
        sharing = Sharing(len(queries), top_k, self._settings.reuse, self._band)
        short = list(range(len(queries)))
        while short:
            offers, deeper = [], []
            size = max(1, _ENTRIES // max(1, depth))
            for numbers in (short[start : start + size] for start in range(0, len(short), size)):
                scores, rows = await self._ranker.rank([queries[n] for n in numbers], depth, self._allowed)
                offers.append(sharing.sift(numbers, scores, rows))
                deeper += _unfinished(numbers, scores, rows, depth, self._band[0])
            sharing.share(offers)
            short = [number for number in deeper if sharing.lacks(number)]
            if depth == self._index.rows or sharing.used_up == self._index.rows:
                break
            # Others took what these queries came to: look further down.
            depth = min(2 * depth, self._index.rows)
        return sharing.rankings

    @property
    def _band(self) -> tuple[float, float]:
        return self._settings.band or (-np.inf, np.inf)


def open_retriever(index: Index, settings: RetrieverSettings) -> Retriever:
    """Return the retriever that settings describe over an index; DataError when the index cannot serve it."""
    return IndexRetriever(index, settings)


def _ranking(scores: Scores, rows: RowNumbers) -> Ranking:
    found = rows != NO_ROW
    return list(zip(rows[found].tolist(), scores[found].tolist(), strict=True))


def _unfinished(
    numbers: Sequence[int], scores: Scores, rows: RowNumbers, depth: int, low: float
) -> list[int]:
    """Return the queries whose rankings go on below depth, and not only with scores below the band."""
    if rows.shape[1] < depth:
        return []
    goes_on = (rows[:, -1] != NO_ROW) & (scores[:, -1] >= low)
    return [number for number, more in zip(numbers, goes_on.tolist(), strict=True) if more]
