from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.documents import make_document, to_table
from retrieval.embedding import as_column, read_vectors
from retrieval.manifest import Layout, documents_key, embeddings_key
from retrieval.partitions import write_table
from retrieval.shards import build_shard, merge, search_shard, take_documents


@given(
    scores=st.lists(st.lists(st.integers(-5, 5), min_size=1, max_size=6), min_size=1, max_size=5),
    top_k=st.integers(1, 12),
)
def test_merged_shards_equal_one_sorted_list(scores: list[list[int]], top_k: int) -> None:
    found, everything, first = [], [], 0
    for shard in scores:
        ranked = sorted((-score, first + row) for row, score in enumerate(shard))
        everything += ranked
        first += len(shard)
        best = ranked[:top_k]
        found.append(
            (
                np.array([[-score for score, _ in best]], dtype=np.float32),
                np.array([[row for _, row in best]], dtype=np.int64),
            )
        )
    merged_scores, merged_rows = merge(found, top_k)
    expected = sorted(everything)[:top_k]
    assert merged_rows[0].tolist() == [row for _, row in expected]
    assert merged_scores[0].tolist() == [-score for score, _ in expected]


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 90))
def test_a_layout_covers_every_row_once(rows: int, partition_rows: int, shard_rows: int) -> None:
    layout = Layout(rows, partition_rows, shard_rows)
    assert [n for shard in layout.shards for n in shard] == list(range(layout.partitions))
    counts = [layout.rows_in(n) for n in range(layout.partitions)]
    assert sum(counts) == rows
    assert all(count == partition_rows for count in counts[:-1])
    assert all(len(shard) * partition_rows >= shard_rows for shard in layout.shards[:-1])


def test_vectors_and_documents_come_back_from_a_shard(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((10, 4)).astype(np.float32)
    documents = [make_document(f"text {number}") for number in range(10)]
    for partition, start in enumerate((0, 5)):
        part = to_table(documents[start : start + 5])
        write_table(store, documents_key(partition), part)
        column = {"id": part["id"], "embedding": as_column(vectors[start : start + 5])}
        write_table(store, embeddings_key(partition), part.from_pydict(column))
    kept = np.concatenate([read_vectors(store, 0), read_vectors(store, 1)])
    np.testing.assert_allclose(kept, vectors, rtol=1e-3)

    assert build_shard(store, 0, [0, 1]) == (10, 4)
    scores, rows = search_shard(store, 0, 100, kept[:2], 20)
    assert scores.shape == rows.shape == (2, 10)
    expected = kept[:2] @ kept.T
    np.testing.assert_array_equal(rows - 100, np.argsort(-expected, axis=1))
    assert take_documents(store, [1, 4, 7], 5)["text"].to_pylist() == ["text 1", "text 4", "text 7"]
    with pytest.raises(DataError, match="vectors of 4 dimensions, the encoder makes 3"):
        search_shard(store, 0, 0, kept[:1, :3], 1)
