"""Random retrieval: any documents, the baseline of SynthesizRR (2405.10040, section 5)."""

import asyncio
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from cluster.settings import digest
from cluster.storage import Store
from retrieval.filtering import allowed_rows
from retrieval.layout import Layout, RowNumbers
from retrieval.manifest import Index
from retrieval.rank import NO_ROW, Filter, Scores
from retrieval.remote import TRIES, own_errors


class RandomRanker:
    """Draws documents without replacement, the same ones for the same query and seed; every score is 0."""

    def __init__(self, index: Index, seed: int) -> None:
        self._store = index.store
        self._layout = index.layout
        self._seed = seed

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        """Return scores and rows, both (queries, at most top_k), best first, padded with -inf and NO_ROW."""
        if allowed.empty:
            drawn = await asyncio.to_thread(draw, self._layout.rows, queries, top_k, self._seed)
        else:
            with own_errors():
                drawn = await _task().remote(
                    self._store, self._layout, allowed, list(queries), top_k, self._seed
                )
        return np.where(drawn == NO_ROW, -np.inf, 0).astype(np.float32), drawn


def draw(rows: int, queries: Sequence[str], top_k: int, seed: int) -> RowNumbers:
    """Draw for each query at most top_k of the numbers below rows, without replacement."""
    count = min(top_k, rows)
    drawn = np.empty((len(queries), count), dtype=np.int64)
    for place, query in enumerate(queries):
        random = np.random.default_rng(int(digest([seed, query]), 16))
        drawn[place] = random.choice(rows, count, replace=False) if count else []
    return drawn


def draw_allowed(
    store: Store, layout: Layout, allowed: Filter, queries: Sequence[str], top_k: int, seed: int
) -> RowNumbers:
    """Draw as `draw` does among the rows that a filter allows."""
    masks = [(shard, allowed_rows(store, shard, allowed)) for shard in layout.shards]
    found = [shard.first_row + np.flatnonzero(mask) for shard, mask in masks if mask is not None]
    eligible = np.concatenate(found)
    return eligible[draw(len(eligible), queries, top_k, seed)]


@cache
def _task() -> Any:
    import ray

    return ray.remote(num_cpus=0, max_retries=TRIES)(draw_allowed)
