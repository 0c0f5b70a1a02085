"""BM25 retrieval: documents that share words with the query, rare words and short documents counting more."""

import asyncio
from collections.abc import Callable, Sequence

import numpy as np

from cluster.errors import DataError
from retrieval.fanout import ClusterSearch
from retrieval.layout import RowNumbers
from retrieval.manifest import Index
from retrieval.merging import merge
from retrieval.postings import (
    Counts,
    Question,
    Words,
    best_matches,
    build_postings,
    counts_key,
    frequencies,
    read_counts,
    words_of,
)
from retrieval.rank import Filter, Scores
from retrieval.remote import TRIES, completed


def ensure_bm25(index: Index, progress: Callable[[str, int, int], None]) -> None:
    """Count the words of the shards that have not been counted, as Ray tasks."""
    import ray

    missing = [shard for shard in index.layout.shards if not index.store.exists(counts_key(shard))]
    task = ray.remote(num_cpus=1, max_retries=TRIES)(build_postings)
    at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
    built = completed(lambda shard: task.remote(index.store, shard), missing, at_once)
    for done, _ in enumerate(built, len(index.layout.shards) - len(missing) + 1):
        progress("bm25", done, len(index.layout.shards))


class BM25Ranker:
    """Ranks documents by BM25 as Lucene has it. The caller has connected to Ray."""

    def __init__(self, index: Index) -> None:
        missing = [shard for shard in index.layout.shards if not index.store.exists(counts_key(shard))]
        if missing:
            raise DataError(
                f"index {index.manifest.name}: its words have not been counted; run `nightshift index` with "
                "retriever.kind bm25 or hybrid"
            )
        self._store = index.store
        counts = [read_counts(index.store, shard) for shard in index.layout.shards]
        self._total = Counts(sum(each.documents for each in counts), sum(each.words for each in counts))
        self._search = ClusterSearch(index.store, index.layout)
        self._most = index.rows

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        """Return scores and rows, both (queries, at most top_k), best first, padded with -inf and NO_ROW."""
        return await asyncio.to_thread(self._rank, queries, min(top_k, self._most), allowed)

    def _rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        if not queries:
            return np.empty((0, 0), dtype=np.float32), np.empty((0, 0), dtype=np.int64)
        texts = words_of(queries)
        words = np.unique(np.concatenate(texts))
        found = self._search.everywhere(frequencies, lambda shards: (self._store, shards, words))
        rarity = _rarity(np.sum(found, axis=0), self._total.documents)
        questions = [_question(text, words, rarity) for text in texts]
        mean_length = self._total.words / self._total.documents or 1.0
        matches = self._search.everywhere(
            best_matches, lambda shards: (self._store, shards, questions, mean_length, top_k, allowed)
        )
        return merge(matches, top_k)


def _rarity(documents_with: RowNumbers, documents: int) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Inverse document frequency as Lucene has it: ln(1 + (N - df + 0.5) / (df + 0.5))."""
    rarity = np.log1p((documents - documents_with + 0.5) / (documents_with + 0.5))
    return np.where(documents_with > 0, rarity, 0).astype(np.float32)


def _question(text: Words, words: Words, rarity: "np.ndarray[tuple[int], np.dtype[np.float32]]") -> Question:
    distinct, times = np.unique(text, return_counts=True)
    return Question(distinct, (rarity[np.searchsorted(words, distinct)] * times).astype(np.float32))
