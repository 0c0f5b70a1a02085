import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.settings import digest
from retrieval.rank import NO_ROW
from retrieval.rankers.hybrid import fuse
from retrieval.rankers.random import draw
from retrieval.search import share_out


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


@given(
    st.lists(st.permutations(range(8)), min_size=1, max_size=5),
    st.integers(1, 8),
    st.integers(1, 3),
)
def test_no_row_serves_more_queries_than_allowed(ranked: list[list[int]], top_k: int, reuse: int) -> None:
    rows = np.array(ranked)
    scores = np.tile(np.arange(8, 0, -1, dtype=np.float32), (len(ranked), 1))
    shared = share_out(scores, rows, top_k, reuse)
    used = [row for ranking in shared for row, _ in ranking]
    assert all(used.count(row) <= reuse for row in used)
    for order, ranking in zip(ranked, shared, strict=True):
        places = [order.index(row) for row, _ in ranking]
        assert places == sorted(places)
        assert len(ranking) <= top_k
    assert [row for row, _ in shared[0]][:1] == ranked[0][:1]


def test_the_better_rank_takes_a_row_and_padding_is_nothing() -> None:
    rows = np.array([[1, 2, 3], [2, 1, NO_ROW]])
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.8, -np.inf]], dtype=np.float32)
    shared = share_out(scores, rows, 2, 1)
    assert [[row for row, _ in ranking] for ranking in shared] == [[1, 3], [2]]
