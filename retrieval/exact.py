"""Exact comparison: of queries with every vector, block by block, and with candidates, pair by pair."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from cluster.storage import Store
from retrieval.filtering import Mask
from retrieval.layout import Part, RowNumbers, Shard
from retrieval.merging import merge
from retrieval.rank import NO_ROW, Scores
from retrieval.vectors import Vectors, check_queries, map_vectors

_BLOCK_ROWS = 8_192
_SLICE_QUERIES = 256
_PAIRS = 4_096

Block = tuple[RowNumbers, Vectors]


def blocks_of(store: Store, shard: Shard, mask: Mask | None) -> Iterator[Block]:
    """Yield the allowed rows of a shard, numbered over the index, and their vectors, in row order."""
    first = 0
    for part in shard.parts:
        vectors = map_vectors(store, part)
        for start in range(0, part.rows, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, part.rows)
            rows = np.arange(start, stop)
            if mask is not None:
                rows = rows[mask[first + start : first + stop]]
            if len(rows):
                whole = len(rows) == stop - start
                block = vectors[start:stop] if whole else vectors[rows]
                yield rows + (shard.first_row + first), block.astype(np.float32)
        first += part.rows


def compare_all(
    store: Store, blocks: Iterable[Block], queries: Vectors, count: int, threads: int = 1
) -> tuple[Scores, RowNumbers]:
    """Return the best count of all rows for each query, equal scores in row order, padded.

    Memory is bounded by one block and its scores; blocks must come in row order.
    """
    size = min(_SLICE_QUERIES, max(1, -(-len(queries) // threads)))
    slices = [_Best(queries[start : start + size], count) for start in range(0, len(queries), size)]
    with ThreadPoolExecutor(threads) as pool:
        for rows, vectors in blocks:
            check_queries(store, queries, vectors.shape[1])
            # NumPy lets go of the interpreter in what takes the time here.
            list(pool.map(lambda best, r=rows, v=vectors: best.add(r, v), slices))
    if not slices:
        return np.empty((0, count), dtype=np.float32), np.empty((0, count), dtype=np.int64)
    return np.concatenate([best.scores for best in slices]), np.concatenate([best.rows for best in slices])


def compare_pairs(
    store: Store,
    shards: Sequence[Shard],
    queries: Vectors,
    candidates: RowNumbers,
    top_k: int,
    threads: int = 1,
) -> tuple[Scores, RowNumbers]:
    """Return the best top_k of each query's candidates, shape (queries, candidates), by exact scores, padded.

    Candidates outside the shards are left out. The score of a pair depends on nothing but the pair.
    """
    scores = np.full(candidates.shape, -np.inf, dtype=np.float32)
    query, column = np.nonzero(
        (candidates >= shards[0].first_row) & (candidates < shards[-1].first_row + shards[-1].rows)
    )
    rows = candidates[query, column]
    order = np.argsort(rows, kind="stable")
    query, column, rows = query[order], column[order], rows[order]

    def compare(run: tuple[Part, int, int, int]) -> None:
        part, first, start, stop = run
        vectors = map_vectors(store, part)
        check_queries(store, queries, vectors.shape[1])
        # A row is a candidate of several queries, and widening it is what costs most.
        distinct, place = np.unique(rows[start:stop] - first, return_inverse=True)
        near = vectors[distinct].astype(np.float32)[place]
        pairs = query[start:stop], column[start:stop]
        scores[pairs] = np.einsum("ij,ij->i", near, queries[pairs[0]])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(compare, _runs(shards, rows)))
    kept = np.where(np.isneginf(scores), NO_ROW, candidates)
    return merge([(scores, kept)], top_k)


def _runs(shards: Sequence[Shard], rows: RowNumbers) -> Iterator[tuple[Part, int, int, int]]:
    """Yield (part, its first row, start, stop): ascending rows cut at parts and into bearable pieces."""
    first = shards[0].first_row
    for part in (part for shard in shards for part in shard.parts):
        begin, end = np.searchsorted(rows, [first, first + part.rows]).tolist()
        for start in range(begin, end, _PAIRS):
            yield part, first, start, min(start + _PAIRS, end)
        first += part.rows


@dataclass(slots=True)
class _Best:
    """The best rows so far of a slice of the queries."""

    queries: Vectors
    count: int
    scores: Scores
    rows: RowNumbers

    def __init__(self, queries: Vectors, count: int) -> None:
        self.queries = queries
        self.count = count
        self.scores = np.full((len(queries), count), -np.inf, dtype=np.float32)
        self.rows = np.full((len(queries), count), NO_ROW, dtype=np.int64)

    def add(self, rows: RowNumbers, vectors: Vectors) -> None:
        """Take in a block that comes after all earlier ones in row order."""
        scores = self.queries @ vectors.T
        # A later row has to be better: equal scores go in row order.
        passing = scores > self.scores[:, -1:]
        if len(rows) > 2 * self.count and np.count_nonzero(passing, axis=1).max() > 2 * self.count:
            passing &= scores >= np.partition(scores, -self.count, axis=1)[:, -self.count, None]
        query, column = np.nonzero(passing)
        if not len(query):
            return
        counts = np.bincount(query, minlength=len(scores))
        place = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        new_scores = np.full((len(scores), counts.max()), -np.inf, dtype=np.float32)
        new_rows = np.full(new_scores.shape, NO_ROW, dtype=np.int64)
        new_scores[query, place] = scores[query, column]
        new_rows[query, place] = rows[column]
        self.scores, self.rows = merge([(self.scores, self.rows), (new_scores, new_rows)], self.count)
