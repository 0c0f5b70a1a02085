from pathlib import Path

import numpy as np
import pytest

from cluster.errors import DataError
from retrieval.filtering import allowed_rows
from retrieval.rank import Filter
from tests.vector_layouts import TOPICS, clustered, lay_out

ROWS = np.arange(40)
TOPIC = np.array([TOPICS[row % 3] for row in ROWS])


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (Filter(tokens=(5, 31)), (ROWS >= 5) & (ROWS <= 31)),
        (Filter(where={"topic": ("film", "no such value")}), TOPIC == "film"),
        (Filter(where={"topic": ()}), ROWS < 0),
        (Filter((0, 9), {"topic": ("news", "film")}), (ROWS <= 9) & (TOPIC != None)),  # noqa: E711
    ],
)
def test_a_filter_is_a_mask_over_the_rows_of_each_shard(
    tmp_path: Path, allowed: Filter, expected: np.ndarray
) -> None:
    store, layout = lay_out(tmp_path, clustered(40, 4), 7, 14)
    masks = [allowed_rows(store, shard, allowed) for shard in layout.shards]
    np.testing.assert_array_equal(np.concatenate(masks), expected)


def test_a_mask_is_made_once_and_cannot_be_changed(tmp_path: Path) -> None:
    store, layout = lay_out(tmp_path, clustered(10, 4), 5, 10)
    first = allowed_rows(store, layout.shards[0], Filter(where={"topic": ("film", "news")}))
    store.delete("documents")
    again = allowed_rows(store, layout.shards[0], Filter(where={"topic": ("news", "film")}))
    assert again is first
    assert first is not None
    with pytest.raises(ValueError, match="read-only"):
        first[0] = False


def test_no_filter_reads_nothing(tmp_path: Path) -> None:
    store, layout = lay_out(tmp_path, clustered(10, 4), 5, 10, documents=False)
    assert allowed_rows(store, layout.shards[0], Filter()) is None


def test_an_unknown_column_is_named(tmp_path: Path) -> None:
    store, layout = lay_out(tmp_path, clustered(10, 4), 5, 10)
    with pytest.raises(DataError, match=r"retriever\.where: the documents have no metadata 'genre'"):
        allowed_rows(store, layout.shards[0], Filter(where={"genre": ("x",)}))
