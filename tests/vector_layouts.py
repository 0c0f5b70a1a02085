"""Small indexes of given vectors for tests: parts in a folder, without an encoder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cluster.storage import LocalStore
from retrieval.documents import make_document, to_table
from retrieval.inverted import template_key
from retrieval.layout import Layout, Part, cut_shards
from retrieval.manifest import Structure
from retrieval.shards import build_shard
from retrieval.structure import train
from retrieval.tables import write_table
from retrieval.vectors import Vectors, write_vectors

TOPICS = ("news", "film", None)


def lay_out(
    folder: Path, vectors: Vectors, part_rows: int, shard_rows: int, documents: bool = True
) -> tuple[LocalStore, Layout]:
    """Write parts; document n has n tokens and the topic TOPICS[n % 3]."""
    store = LocalStore(folder)
    parts = []
    for number, start in enumerate(range(0, len(vectors), part_rows)):
        rows = range(start, min(start + part_rows, len(vectors)))
        parts.append(Part(f"00000-{number:05d}", len(rows)))
        write_vectors(store, parts[-1], vectors[rows.start : rows.stop])
        if documents:
            held = [make_document(f"text {n}", None, n, _metadata(n)) for n in rows]
            write_table(store, parts[-1].documents_key, to_table(held, ["topic"]))
    return store, Layout(tuple(parts), cut_shards(parts, shard_rows))


def build(store: LocalStore, layout: Layout, structure: Structure, sample: Vectors) -> None:
    """Train a structure on a sample and build every shard."""
    store.write(template_key(structure), train(sample, structure, seed=7))
    assert sum(build_shard(store, shard, structure) for shard in layout.shards) == layout.rows


def small(kind: str, lists: int, code_bytes: int, probes: int = 1, oversample: int = 1) -> Structure:
    """Return a structure of a given size."""
    chosen = Structure(kind, lists=lists, probes=probes, code_bytes=code_bytes, oversample=oversample)
    return replace(chosen, name=f"{kind}-test")


def clustered(rows: int, dimension: int, seed: int = 0, clusters: int = 20) -> Vectors:
    """Return unit vectors around random centres, as half precision holds them."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((clusters, dimension))
    vectors = centres[random.integers(0, clusters, rows)] + 0.5 * random.standard_normal((rows, dimension))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float16).astype(np.float32)


def brute_force(
    queries: Vectors, vectors: Vectors, top_k: int, allowed: Sequence[bool] | None = None
) -> list[list[tuple[float, int]]]:
    """Return (score, row) of the best top_k allowed rows of each query, equal scores in row order."""
    scores = queries.astype(np.float64) @ vectors.astype(np.float64).T
    rows = [row for row in range(len(vectors)) if allowed is None or allowed[row]]
    return [sorted(((float(line[row]), row) for row in rows), key=_order)[:top_k] for line in scores]


def _order(pair: tuple[float, int]) -> tuple[float, int]:
    return -pair[0], pair[1]


def _metadata(number: int) -> dict[str, str]:
    topic = TOPICS[number % 3]
    return {} if topic is None else {"topic": topic}
