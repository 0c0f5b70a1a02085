import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import digest
from retrieval.rank import NO_ROW
from retrieval.rankers.hybrid import fuse
from retrieval.rankers.random import draw


def test_fusion_adds_reciprocal_ranks() -> None:
    first, second = np.array([7, 3, NO_ROW]), np.array([3, 9, 5])
    scores, rows = fuse([first, second], 10)
    assert rows.tolist() == [3, 7, 9, 5]
    assert scores.tolist() == pytest.approx([1 / 62 + 1 / 61, 1 / 61, 1 / 62, 1 / 63])
    assert fuse([np.array([4, 2]), np.array([2, 4])], 1)[1].tolist() == [2]


@given(st.integers(1, 60), st.integers(1, 80), st.text(max_size=5))
def test_random_rows_are_distinct_and_follow_query_and_seed(rows: int, top_k: int, query: str) -> None:
    drawn = draw(rows, [query, query + "x"], top_k, 3)
    assert drawn.shape == (2, min(rows, top_k))
    assert all(len(set(each)) == len(each) and set(each) <= set(range(rows)) for each in drawn.tolist())
    assert (draw(rows, [query], top_k, 3) == drawn[:1]).all()


def test_random_rows_differ_between_queries_and_seeds() -> None:
    drawn = [draw(10_000, [query], 20, seed).tolist() for query in "ab" for seed in (0, 1)]
    assert len({digest(each) for each in drawn}) == 4
