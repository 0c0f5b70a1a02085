from collections import Counter
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.layout import RowNumbers
from retrieval.rank import NO_ROW, Filter, Scores
from retrieval.search import IndexRetriever
from retrieval.settings import RetrieverSettings
from retrieval.sharing import Ranking

ROWS = 12


class Fixed:
    """A ranker whose rankings are given; a query is its number. It notes what it was asked."""

    def __init__(self, ranked: Sequence[Sequence[int]]) -> None:
        self.ranked = ranked
        self.asked: list[tuple[int, int]] = []

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        self.asked.append((len(queries), top_k))
        lists = [list(self.ranked[int(query)])[:top_k] for query in queries]
        rows = np.array([own + [NO_ROW] * (top_k - len(own)) for own in lists], dtype=np.int64)
        scores = np.where(rows == NO_ROW, -np.inf, 1 - np.arange(top_k) / ROWS).astype(np.float32)
        return scores, rows


async def _shared(ranker: Fixed, top_k: int, **settings: Any) -> list[Ranking]:
    retriever = object.__new__(IndexRetriever)
    retriever._index = SimpleNamespace(rows=ROWS)  # type: ignore[assignment]
    retriever._settings = RetrieverSettings.model_validate(settings)
    retriever._allowed, retriever._ranker = Filter(), ranker
    return await retriever._rankings([str(n) for n in range(len(ranker.ranked))], top_k)


def _greedy(ranked: Sequence[Sequence[int]], top_k: int, reuse: int) -> list[list[int]]:
    taken: Counter[int] = Counter()
    given: list[list[int]] = [[] for _ in ranked]
    for place in range(ROWS):
        for own, order in zip(given, ranked, strict=True):
            if place < len(order) and len(own) < top_k and taken[order[place]] < reuse:
                taken[order[place]] += 1
                own.append(order[place])
    return given


SOME = st.permutations(range(ROWS)).flatmap(lambda order: st.integers(0, ROWS).map(lambda n: order[:n]))


@given(st.lists(SOME, min_size=1, max_size=6), st.integers(1, ROWS), st.integers(1, 3), st.integers(1, 30))
async def test_going_deeper_step_by_step_is_greedy_over_whole_rankings(
    ranked: list[list[int]], top_k: int, reuse: int, entries: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retrieval.search._ENTRIES", entries)
        shared = await _shared(Fixed(ranked), top_k, reuse=reuse)
    assert [[row for row, _ in ranking] for ranking in shared] == _greedy(ranked, top_k, reuse)


async def test_the_better_rank_takes_a_row_and_padding_is_nothing() -> None:
    shared = await _shared(Fixed([[1, 2, 3], [2, 1]]), 2, reuse=1)
    assert [[row for row, _ in ranking] for ranking in shared] == [[1, 3], [2]]


async def test_only_queries_that_are_short_are_asked_again() -> None:
    ranker = Fixed([[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11], [0, 1, 2, 3, 4, 5]])
    shared = await _shared(ranker, 2, reuse=1)
    assert [[row for row, _ in ranking] for ranking in shared] == [[0, 1], [6, 7], [2, 3]]
    assert ranker.asked == [(3, 2), (1, 4)]


async def test_a_hit_outside_the_band_takes_a_rank_and_no_use() -> None:
    # Row 0 is a copy of the first query (score 1, above the band) and near the second (score 11/12).
    ranker = Fixed([[0, 1, 2], [3, 0, 4]])
    shared = await _shared(ranker, 3, reuse=1, band=(0.5, 0.95))
    assert [[row for row, _ in ranking] for ranking in shared] == [[0, 1, 2], [3, 0, 4]]


async def test_rankings_end_below_the_band_or_when_all_is_used_up() -> None:
    same = [list(range(ROWS))] * 3
    ranker = Fixed(same)
    await _shared(ranker, 4, reuse=1, band=(0.8, 1.0))
    assert ranker.asked[-1][1] == 4
    ranker = Fixed([list(range(ROWS)), list(range(ROWS))[::-1], *same])
    await _shared(ranker, 6, reuse=1)
    assert [depth for _, depth in ranker.asked] == [6]
