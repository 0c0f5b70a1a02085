"""The search of an index's shards over the cluster: a few tasks a node, each with a run of shards."""

import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from cluster.storage import Store
from retrieval.exact import compare_pairs
from retrieval.layout import Layout, RowNumbers, Shard
from retrieval.manifest import Structure
from retrieval.merging import merge
from retrieval.rank import Filter, Scores
from retrieval.remote import FAISS_ENVIRONMENT, own_errors
from retrieval.shards import candidates_of, find_candidates, width_of
from retrieval.vectors import Vectors

_TASKS_ON_A_NODE = 4
_TRIES = 3
_CANDIDATES = 1_000_000
"""Candidates of all queries that one task sends back at most: 12 MB. More queries are searched in turns."""


class ClusterSearch:
    """Searches the vectors of an index in Ray tasks; the caller has connected.

    It blocks: asynchronous code calls it in a thread.
    """

    def __init__(self, store: Store, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    def rank(
        self, structure: Structure, queries: Vectors, top_k: int, allowed: Filter
    ) -> tuple[Scores, RowNumbers]:
        """Return exact scores and rows, (queries, at most top_k), best first, as `search_shards` does."""
        size = max(1, _CANDIDATES // min(self._layout.rows, width_of(structure, top_k)))
        turns = [
            self._rank(structure, queries[start : start + size], top_k, allowed)
            for start in range(0, len(queries), size)
        ]
        if not turns:
            return np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.int64)
        return np.concatenate([scores for scores, _ in turns]), np.concatenate([rows for _, rows in turns])

    def find(self, structure: Structure, queries: Vectors, count: int) -> RowNumbers:
        """Name at most count candidates for each query by the structure's own scores, best first, padded."""
        return self._find(structure, queries, min(count, self._layout.rows), Filter())

    def _rank(
        self, structure: Structure, queries: Vectors, top_k: int, allowed: Filter
    ) -> tuple[Scores, RowNumbers]:
        import ray

        def find(structure: Structure, queries: Vectors, count: int) -> RowNumbers:
            return self._find(structure, queries, count, allowed)

        candidates = candidates_of(structure, self._layout.rows, queries, top_k, find)
        shared = [ray.put(queries), ray.put(candidates)]
        found = self.everywhere(compare_pairs, lambda shards: (self._store, shards, *shared, top_k))
        return merge(found, top_k)

    def _find(self, structure: Structure, queries: Vectors, count: int, allowed: Filter) -> RowNumbers:
        import ray

        shared = ray.put(queries)
        found = self.everywhere(
            find_candidates, lambda shards: (self._store, shards, structure, shared, count, allowed)
        )
        return merge(found, count)[1]

    def everywhere(
        self, function: Callable[..., Any], arguments: Callable[[Sequence[Shard]], tuple[Any, ...]]
    ) -> list[tuple[Scores, RowNumbers]]:
        """Run a function over all shards, in row order; the same shards go to the same node each time."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

        shards, nodes = self._layout.shards, _nodes()
        count = min(len(shards), _TASKS_ON_A_NODE * len(nodes))
        pending = []
        for number, cut in enumerate(np.array_split(np.arange(len(shards)), count)):
            place = number * len(nodes) // count
            name, cores = nodes[place]
            beside = sum(other * len(nodes) // count == place for other in range(count))
            task = _task(function).options(scheduling_strategy=On(name, soft=True))
            run = shards[int(cut[0]) : int(cut[-1]) + 1]
            pending.append(task.remote(*arguments(run), threads=max(1, cores // beside)))
        with own_errors():
            found: list[tuple[Scores, RowNumbers]] = ray.get(pending)
        return found


def _nodes() -> list[tuple[str, int]]:
    """Return id and cores of the nodes that work, in the order of their ids."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    cores = {node["NodeID"]: int(node["Resources"].get("CPU", 0)) for node in alive}
    working = {name: count for name, count in cores.items() if count} or cores
    return sorted((name, count or os.cpu_count() or 1) for name, count in working.items())


@cache
def _task(function: Callable[..., Any]) -> Any:
    import ray

    # No core is asked for: a search is short, and teachers may hold every core while it is wanted.
    return ray.remote(num_cpus=0, max_retries=_TRIES, runtime_env=FAISS_ENVIRONMENT)(function)
