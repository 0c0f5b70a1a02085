from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import DataError, StorageError
from retrieval.inverted import shard_key, template_key
from retrieval.layout import Layout, Part, cut_shards
from retrieval.manifest import Structure
from retrieval.merging import merge
from retrieval.rank import NO_ROW, Filter
from retrieval.shards import build_shard, merge_shards, search_shards
from retrieval.vectors import Vectors
from tests.vector_layouts import TOPICS, brute_force, build, clustered, lay_out, small

FILTERS: list[tuple[Filter, Callable[[int], bool]]] = [
    (Filter(), lambda row: True),
    (Filter(tokens=(3, 17)), lambda row: 3 <= row <= 17),
    (Filter(tokens=(10**6, 10**7)), lambda row: False),
    (Filter(where={"topic": ("film",)}), lambda row: TOPICS[row % 3] == "film"),
    (Filter((0, 30), {"topic": ("film", "news")}), lambda row: row <= 30 and row % 3 < 2),
]


def _pairs(found: tuple[np.ndarray, np.ndarray]) -> list[list[tuple[float, int]]]:
    """Return (score, row) of each query without padding, which must stand at the end."""
    scores, rows = found
    for line, padded in zip(rows == NO_ROW, np.isneginf(scores), strict=True):
        np.testing.assert_array_equal(line, padded)
        assert (np.diff(line.astype(int)) >= 0).all()
    return [
        [(score, row) for score, row in zip(*pair, strict=True) if row != NO_ROW]
        for pair in zip(scores.tolist(), rows.tolist(), strict=True)
    ]


@given(
    scores=st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=6), min_size=1, max_size=5),
    top_k=st.integers(1, 12),
    backwards=st.booleans(),
)
def test_merged_shards_equal_one_sorted_list(scores: list[list[int]], top_k: int, backwards: bool) -> None:
    found, everything, first = [], [], 0
    for shard in scores:
        ranked = sorted((-score, first + row) for row, score in enumerate(shard))
        everything += ranked
        first += len(shard)
        padding = [(np.inf, NO_ROW)] * 2
        best = (ranked + padding)[:top_k]
        found.append(
            (
                np.array([[-score for score, _ in best]], dtype=np.float32),
                np.array([[row for _, row in best]], dtype=np.int64),
            )
        )
    ours = _pairs(merge(found[::-1] if backwards else found, top_k))
    assert ours == [[(-score, row) for score, row in sorted(everything)[:top_k]]]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 90))
def test_a_layout_covers_every_row_once(rows: int, part_rows: int, shard_rows: int) -> None:
    parts = [Part(str(start), min(part_rows, rows - start)) for start in range(0, rows, part_rows)]
    layout = Layout(tuple(parts), cut_shards(parts, shard_rows))
    assert [part for shard in layout.shards for part in shard.parts] == parts
    assert sum(shard.rows for shard in layout.shards) == layout.rows == rows
    assert all(shard.rows >= shard_rows for shard in layout.shards[:-1])
    numbers, positions = layout.locate(np.arange(rows))
    starts = np.cumsum([0, *(part.rows for part in parts)])
    np.testing.assert_array_equal(starts[numbers] + positions, np.arange(rows))


# Whole numbers: every sum is exact, so that ties are ties and the whole order is determined.
layouts = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 60),
        "part_rows": st.integers(1, 25),
        "shard_rows": st.integers(1, 40),
        "dimension": st.integers(1, 9),
        "queries": st.integers(1, 5),
        "top_k": st.integers(1, 80),
        "spread": st.integers(0, 3),
        "threads": st.integers(1, 3),
        "seed": st.integers(0, 999),
    }
)


@settings(max_examples=40, deadline=None)
@given(layouts, st.sampled_from(FILTERS))
def test_a_sharded_exact_search_is_brute_force(
    case: dict[str, int], filtering: tuple[Filter, Callable[[int], bool]]
) -> None:
    random = np.random.default_rng(case["seed"])
    span, size = case["spread"], case["dimension"]
    vectors = random.integers(-span, span + 1, (case["rows"], size)).astype(np.float32)
    queries = random.integers(-span, span + 1, (case["queries"], size)).astype(np.float32)
    allowed, says = filtering
    with TemporaryDirectory() as folder:
        store, layout = lay_out(Path(folder), vectors, case["part_rows"], case["shard_rows"])
        found = search_shards(
            store, layout.shards, Structure(), queries, case["top_k"], allowed, case["threads"]
        )
        apart = [
            search_shards(store, [shard], Structure(), queries, case["top_k"], allowed)
            for shard in layout.shards
        ]
    expected = brute_force(queries, vectors, case["top_k"], [says(row) for row in range(len(vectors))])
    assert _pairs(found) == expected
    assert _pairs(merge(apart, case["top_k"])) == expected


@settings(max_examples=25, deadline=None)
@given(layouts, st.sampled_from(FILTERS), st.sampled_from(["ivf_sq", "ivf_pq"]), st.booleans())
def test_a_sharded_ivf_search_that_looks_at_all_is_brute_force(
    case: dict[str, int], filtering: tuple[Filter, Callable[[int], bool]], kind: str, whole: bool
) -> None:
    random = np.random.default_rng(case["seed"])
    vectors = random.integers(-9, 10, (case["rows"], 8)).astype(np.float32)
    queries = random.integers(-9, 10, (case["queries"], 8)).astype(np.float32)
    allowed, says = filtering
    structure = small(kind, lists=3, code_bytes=8 if kind == "ivf_sq" else 2, probes=3, oversample=60)
    with TemporaryDirectory() as folder:
        store, layout = lay_out(Path(folder), vectors, case["part_rows"], case["shard_rows"])
        build(store, layout, structure, vectors)
        if whole:
            layout = merge_shards(store, layout, structure)
            assert len(layout.shards) == 1
        found = search_shards(store, layout.shards, structure, queries, case["top_k"], allowed)
    assert _pairs(found) == brute_force(
        queries, vectors, case["top_k"], [says(row) for row in range(len(vectors))]
    )


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return clustered(900, 16)


@pytest.mark.parametrize("kind", ["ivf_sq", "ivf_pq"])
@pytest.mark.parametrize(("allowed", "says"), FILTERS)
def test_few_lists_never_make_a_short_ranking(
    tmp_path: Path, vectors: Vectors, kind: str, allowed: Filter, says: Callable[[int], bool]
) -> None:
    structure = small(kind, lists=16, code_bytes=16 if kind == "ivf_sq" else 8)
    store, layout = lay_out(tmp_path, vectors, 100, 250)
    build(store, layout, structure, vectors)
    rows = [row for row in range(900) if says(row)]
    for top_k in (1, 20, 700):
        found = _pairs(search_shards(store, layout.shards, structure, vectors[:40], top_k, allowed))
        for query, ranking in zip(vectors, found, strict=False):
            assert len(ranking) == min(top_k, len(rows))
            assert {row for _, row in ranking} <= set(rows)
            for score, row in ranking:
                assert score == pytest.approx(query @ vectors[row], abs=1e-5)


def test_merged_shards_find_what_shards_find(tmp_path: Path, vectors: Vectors) -> None:
    structure = small("ivf_pq", lists=16, code_bytes=8, probes=3, oversample=3)
    store, layout = lay_out(tmp_path, vectors, 100, 250)
    build(store, layout, structure, vectors)
    apart = search_shards(store, layout.shards, structure, vectors[:50], 10, Filter())
    merged = merge_shards(store, layout, structure)
    for key in [shard_key(shard, structure) for shard in layout.shards]:
        store.delete(key)
    together = search_shards(store, merged.shards, structure, vectors[:50], 10, Filter(), 2)
    for ours, theirs in zip(apart, together, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_shard_is_built_alike_each_time(tmp_path: Path, vectors: Vectors) -> None:
    structure = small("ivf_pq", lists=16, code_bytes=8)
    store, layout = lay_out(tmp_path, vectors, 100, 500)
    build(store, layout, structure, vectors)
    keys = [template_key(structure), *(shard_key(shard, structure) for shard in layout.shards)]
    before = [store.read(key) for key in keys]
    build(store, layout, structure, vectors)
    assert [store.read(key) for key in keys] == before


def test_a_shards_file_is_without_the_centroids(tmp_path: Path, vectors: Vectors) -> None:
    structure = small("ivf_sq", lists=64, code_bytes=16)
    store, layout = lay_out(tmp_path, vectors, 100, 100)
    build(store, layout, structure, vectors)
    sizes = {shard_key(shard, structure): 0 for shard in layout.shards}
    sizes = {key: len(store.read(key)) for key in sizes}
    codes = 100 * (16 + 8)
    assert all(size < codes + 64 * 8 + 1_000 for size in sizes.values())
    assert len(store.read(template_key(structure))) > 64 * 16 * 4


def test_queries_of_another_encoder_are_refused(tmp_path: Path, vectors: Vectors) -> None:
    structure = small("ivf_sq", lists=4, code_bytes=16)
    store, layout = lay_out(tmp_path, vectors, 300, 300)
    build(store, layout, structure, vectors)
    for each in (Structure(), structure):
        with pytest.raises(DataError, match="vectors of 16 dimensions, the encoder makes 3"):
            search_shards(store, layout.shards, each, vectors[:2, :3], 1, Filter())
    with pytest.raises(DataError, match="query 2: its vector is not finite"):
        search_shards(store, layout.shards, Structure(), np.array([[0.0] * 16, [np.nan] * 16]), 1, Filter())


def test_damage_is_named(tmp_path: Path, vectors: Vectors) -> None:
    structure = small("ivf_sq", lists=4, code_bytes=16)
    store, layout = lay_out(tmp_path, vectors, 300, 300)
    build(store, layout, structure, vectors)
    shard = layout.shards[1]
    key = shard_key(shard, structure)
    whole = store.read(key)
    for broken in (whole[: len(whole) // 2], b"not an index"):
        store.write(key, broken)
        with pytest.raises(StorageError, match="is not a readable FAISS file; remove it"):
            search_shards(store, [replace(shard)], structure, vectors[:1], 1, Filter())
    store.write(key, store.read(shard_key(layout.shards[0], structure)))
    store.delete(layout.parts[1].vectors_key)
    with pytest.raises(StorageError, match=r"part-00000-00001\.npy"):
        build_shard(store, shard, structure)


def test_an_empty_batch_of_queries_finds_nothing(tmp_path: Path, vectors: Vectors) -> None:
    store, layout = lay_out(tmp_path, vectors, 300, 300)
    scores, rows = search_shards(store, layout.shards, Structure(), vectors[:0], 5, Filter())
    assert scores.shape == rows.shape == (0, 5)


def test_memory_of_an_exact_search_is_bounded_by_the_block(tmp_path: Path) -> None:
    import tracemalloc

    vectors = clustered(40_000, 64)
    store, layout = lay_out(tmp_path, vectors, 10_000, 40_000, documents=False)
    tracemalloc.start()
    search_shards(store, layout.shards, Structure(), vectors[:10], 5, Filter())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8_192 * 64 * 4 * 2
