"""Hybrid retrieval: reciprocal rank fusion of other rankings (Cormack, Clarke and Büttcher 2009)."""

import asyncio
from collections.abc import Sequence

import numpy as np

from retrieval.layout import RowNumbers
from retrieval.merging import merge
from retrieval.rank import NO_ROW, Filter, Ranker, Scores

_DAMPING = 60
"""Added to every rank (section 3 of the paper, found best in pilot runs there)."""
_DEPTH = 100
"""Ranks that are fused at least: a document low in both lists may come out on top."""


class HybridRanker:
    """Ranks documents by the sum, over several rankers, of 1 / (60 + rank)."""

    def __init__(self, rankers: Sequence[Ranker]) -> None:
        self._rankers = rankers

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        """Return scores and rows, both (queries, at most top_k), best first, padded with -inf and NO_ROW."""
        depth = max(top_k, _DEPTH)
        found = await asyncio.gather(*(ranker.rank(queries, depth, allowed) for ranker in self._rankers))
        fused = [fuse([rows[query] for _, rows in found], top_k) for query in range(len(queries))]
        width = max((len(rows) for _, rows in fused), default=0)
        scores = np.full((len(queries), width), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), width), NO_ROW, dtype=np.int64)
        for query, (some_scores, some_rows) in enumerate(fused):
            scores[query, : len(some_rows)] = some_scores
            rows[query, : len(some_rows)] = some_rows
        return scores, rows


def fuse(rankings: Sequence[RowNumbers], top_k: int) -> tuple[Scores, RowNumbers]:
    """Fuse rankings of one query; equal scores go in row order, padding counts for nothing."""
    shares = [1.0 / (_DAMPING + np.arange(1, len(rows) + 1)) for rows in rankings]
    rows, where = np.unique(np.concatenate(rankings), return_inverse=True)
    scores = np.bincount(where, weights=np.concatenate(shares), minlength=len(rows)).astype(np.float32)
    kept = rows != NO_ROW
    best_scores, best_rows = merge([(scores[None, kept], rows[None, kept])], top_k)
    return best_scores[0], best_rows[0]
