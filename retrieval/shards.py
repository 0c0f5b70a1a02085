"""Shards of vectors: built from their parts, and searched.

A search has two steps, so that its result depends on neither shards nor cluster: every shard names candidates
by the scores of its structure, and the best of all shards are compared exactly.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import numpy as np

from cluster.storage import Store
from retrieval.exact import blocks_of, compare_all, compare_pairs
from retrieval.filtering import Mask, allowed_rows
from retrieval.inverted import Lists, fill_lists, join_lists, shard_key, write_lists
from retrieval.layout import Layout, RowNumbers, Shard
from retrieval.manifest import Structure
from retrieval.merging import merge
from retrieval.rank import NO_ROW, Filter, Scores
from retrieval.structure import Find, for_depth
from retrieval.vectors import Vectors, map_vectors

_SLACK = 32
"""Candidates of an exact search beyond top_k: rounding in another order may swap the nearest of scores."""


def build_shard(store: Store, shard: Shard, structure: Structure, threads: int = 1) -> int:
    """Build a shard from the vectors of its parts and return its rows; the template lies in the store.

    exact needs nothing beside the vectors, which are only looked at. Errors: StorageError for damage.
    """
    if structure.kind == "exact":
        return sum(len(map_vectors(store, part)) for part in shard.parts)
    index = fill_lists(store, shard, structure, threads)
    write_lists(store, shard_key(shard, structure), index)
    return int(index.ntotal)


def merge_shards(store: Store, layout: Layout, structure: Structure) -> Layout:
    """Put the lists of all shards into one file, unless it is there, and return the layout with one shard.

    It is made in memory: one machine has to hold all codes, as the search that it is for will.
    """
    merged = replace(layout, shard_parts=(len(layout.parts),))
    (whole,) = merged.shards
    key = shard_key(whole, structure)
    if structure.kind != "exact" and not store.exists(key):
        write_lists(store, key, join_lists(store, layout.shards, structure))
    return merged


def search_shards(
    store: Store,
    shards: Sequence[Shard],
    structure: Structure,
    queries: Vectors,
    top_k: int,
    allowed: Filter,
    threads: int = 1,
) -> tuple[Scores, RowNumbers]:
    """Return exact scores and rows of consecutive shards, (queries, at most top_k), best first, padded.

    There is padding only where the filter allows no more rows. Errors: DataError for queries of another
    dimension than the vectors'.
    """

    def find(structure: Structure, queries: Vectors, count: int) -> RowNumbers:
        return find_candidates(store, shards, structure, queries, count, allowed, threads)[1]

    candidates = candidates_of(structure, sum(shard.rows for shard in shards), queries, top_k, find)
    return compare_pairs(store, shards, queries, candidates, top_k, threads)


def candidates_of(structure: Structure, rows: int, queries: Vectors, top_k: int, find: Find) -> RowNumbers:
    """Return the rows, of an index of so many, that have to be compared exactly for each query, padded."""
    count = min(rows, width_of(structure, top_k))
    found = find(for_depth(structure, rows, count), queries, count)
    if structure.kind == "exact":
        return found
    # The lists that were looked into may hold less than was asked for, above all of what a filter allows.
    lacking = np.flatnonzero(found[:, min(top_k, count) - 1] == NO_ROW)
    if len(lacking):
        exact = find(Structure(), queries[lacking], min(rows, width_of(Structure(), top_k)))
        wider = max(0, exact.shape[1] - found.shape[1])
        found = np.pad(found, ((0, 0), (0, wider)), constant_values=NO_ROW)
        found[lacking] = NO_ROW
        found[lacking, : exact.shape[1]] = exact
    return found


def width_of(structure: Structure, top_k: int) -> int:
    """Return how many candidates of each query are compared exactly, at most."""
    return top_k + _SLACK if structure.kind == "exact" else top_k * structure.oversample


def find_candidates(
    store: Store,
    shards: Sequence[Shard],
    structure: Structure,
    queries: Vectors,
    count: int,
    allowed: Filter,
    threads: int = 1,
) -> tuple[Scores, RowNumbers]:
    """Return the best rows of consecutive shards by the structure's own scores, (queries, count), padded."""
    lists = None if structure.kind == "exact" else Lists(store, structure, queries, threads)
    best = (
        np.full((len(queries), count), -np.inf, dtype=np.float32),
        np.full((len(queries), count), NO_ROW, dtype=np.int64),
    )
    scanned: list[tuple[Shard, Mask | None]] = []
    for shard in shards:
        mask = allowed_rows(store, shard, allowed)
        probes = _probes(structure, mask)
        if lists is None or probes is None:
            scanned.append((shard, mask))
        else:
            best = merge([best, lists.search(shard, probes, count, mask)], count)
    blocks = chain.from_iterable(blocks_of(store, shard, mask) for shard, mask in scanned)
    return merge([best, compare_all(store, blocks, queries, count, threads)], count) if scanned else best


def _probes(structure: Structure, mask: Mask | None) -> int | None:
    """Return how many lists to look into, the more the fewer rows are allowed; None: compare all of them."""
    if mask is None:
        return structure.probes
    share = float(mask.mean())
    if share * structure.lists <= structure.probes:
        return None
    return math.ceil(structure.probes / share)
