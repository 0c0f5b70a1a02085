from pathlib import Path

import numpy as np
import pytest

from cluster.errors import ModelError, StorageError
from cluster.storage import LocalStore
from retrieval.layout import Part
from retrieval.vectors import map_vectors, sample_vectors, write_vectors
from tests.vector_layouts import clustered, lay_out


def test_vectors_come_back_in_half_precision(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((10, 4)).astype(np.float32)
    store, part = LocalStore(tmp_path), Part("00000-00000", 10)
    write_vectors(store, part, vectors)
    mapped = map_vectors(store, part)
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, vectors.astype(np.float16))


@pytest.mark.parametrize("value", [np.nan, np.inf, 70_000.0])
def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path, value: float) -> None:
    vectors = np.zeros((3, 4), dtype=np.float32)
    vectors[1, 2] = value
    with pytest.raises(ModelError, match=r"documents/part-7\.parquet:2: the encoder made a vector"):
        write_vectors(LocalStore(tmp_path), Part("7", 3), vectors)


def test_damaged_vectors_are_named(tmp_path: Path) -> None:
    store, part = LocalStore(tmp_path), Part("7", 3)
    write_vectors(store, part, np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(StorageError, match=r"part-7\.npy: holds float16 of shape \(3, 4\) instead of 2 vec"):
        map_vectors(store, Part("7", 2))
    whole = store.read(part.vectors_key)
    for broken in (whole[:-5], whole[:20], b"", b"something else"):
        store.write(part.vectors_key, broken)
        with pytest.raises(StorageError, match=r"part-7\.npy: is damaged"):
            map_vectors(store, part)


@pytest.mark.parametrize("count", [1, 30, 500, 2_000])
def test_a_sample_has_each_row_once_with_its_vector(tmp_path: Path, count: int) -> None:
    vectors = clustered(1_000, 8)
    store, layout = lay_out(tmp_path, vectors, 10, 100, documents=False)
    rows, sample = sample_vectors(store, layout.parts, count, seed=3)
    assert len(rows) == min(count, 1_000)
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(sample, vectors[rows])
    again, _ = sample_vectors(store, layout.parts, count, seed=3)
    np.testing.assert_array_equal(again, rows)


def test_a_sample_comes_from_everywhere(tmp_path: Path) -> None:
    store, layout = lay_out(tmp_path, clustered(1_000, 2), 10, 100, documents=False)
    rows = np.concatenate([sample_vectors(store, layout.parts, 100, seed)[0] for seed in range(40)])
    tenths = np.bincount(rows // 100, minlength=10) / len(rows)
    assert (abs(tenths - 0.1) < 0.03).all()
