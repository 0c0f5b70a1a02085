"""Search: rank documents for queries, apply the settings' limits, and fetch the documents."""

from collections import Counter
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

_RANKERS: dict[str, Callable[[Index, RetrieverSettings], Ranker]] = {
    "dense": lambda index, _: DenseRanker(index),
    "bm25": lambda index, _: BM25Ranker(index),
    "random": lambda index, settings: RandomRanker(index, settings.seed),
    "hybrid": lambda index, _: HybridRanker([DenseRanker(index), BM25Ranker(index)]),
}

Ranking = list[tuple[int, float]]
"""Rows and scores of one query, best first."""


class Retriever(Protocol):
    """Fetches documents for queries."""

    @property
    def band(self) -> tuple[float, float] | None:
        """Scores (low, high) between which a document grounds an example; None: use ranks only."""

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first."""


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

    @property
    def band(self) -> tuple[float, float] | None:
        """The settings' band of scores or, for dense retrieval, the encoder preset's."""
        if self._settings.band is not None or self._settings.kind != "dense":
            return self._settings.band
        return self._index.encoder.family.band

    async def search(self, queries: Sequence[str], top_k: int) -> list[list[Hit]]:
        """Return at most top_k hits for each query, best first.

        Ranks count the documents that may be found and are not yet used up; the settings' band leaves gaps.
        """
        if not queries:
            return []
        rankings = await self._rankings(queries, top_k)
        low, high = self._settings.band or (-np.inf, np.inf)
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
        while True:
            scores, rows = await self._ranker.rank(queries, depth, self._allowed)
            if self._settings.reuse is None:
                return [_ranking(*ranked)[:top_k] for ranked in zip(scores, rows, strict=True)]
            rankings = share_out(scores, rows, top_k, self._settings.reuse)
            short = [len(ranking) < top_k for ranking in rankings]
            ended = [len(_ranking(*ranked)) < depth for ranked in zip(scores, rows, strict=True)]
            if depth >= self._index.rows or all(
                over or not lacking for over, lacking in zip(ended, short, strict=True)
            ):
                return rankings
            # Others took what this query came to: look further down.
            depth = min(2 * depth, self._index.rows)


def share_out(scores: Scores, rows: RowNumbers, top_k: int, reuse: int) -> list[Ranking]:
    """Give each row to at most `reuse` queries: by rank, and within a rank in the order of the queries."""
    taken: Counter[int] = Counter()
    rankings: list[Ranking] = [[] for _ in range(len(rows))]
    for place in range(rows.shape[1]):
        for query, ranking in enumerate(rankings):
            row = int(rows[query, place])
            if row != NO_ROW and len(ranking) < top_k and taken[row] < reuse:
                taken[row] += 1
                ranking.append((row, float(scores[query, place])))
    return rankings


def open_retriever(index: Index, settings: RetrieverSettings) -> Retriever:
    """Return the retriever that settings describe over an index; DataError when the index cannot serve it."""
    return IndexRetriever(index, settings)


def _ranking(scores: Scores, rows: RowNumbers) -> Ranking:
    found = rows != NO_ROW
    return list(zip(rows[found].tolist(), scores[found].tolist(), strict=True))
