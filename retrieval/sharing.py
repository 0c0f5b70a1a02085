"""The reuse cap: rows that several queries want are shared out."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retrieval.layout import RowNumbers
from retrieval.rank import NO_ROW, Scores

Ranking = list[tuple[int, float]]
"""Rows and scores of one query, best first."""


@dataclass(frozen=True, slots=True)
class Offer:
    """Rows that queries may still have, each with its query's number, its place in the ranking, its score."""

    places: RowNumbers
    queries: RowNumbers
    rows: RowNumbers
    scores: Scores


class Sharing:
    """Gives each row to at most `reuse` queries: by rank, and within a rank in the order of the queries.

    A query that is short is offered a deeper ranking. That gives what the deeper rankings of all queries
    would have, because those that are filled took only rows before. A row outside the band, which no query
    keeps, takes a rank and no use.
    """

    def __init__(self, queries: int, top_k: int, reuse: int, band: tuple[float, float]) -> None:
        self._rankings: list[dict[int, float]] = [{} for _ in range(queries)]
        self._top_k = top_k
        self._reuse = reuse
        self._band = band
        self._uses: Counter[int] = Counter()
        self._used_up: list[int] = []

    @property
    def rankings(self) -> list[Ranking]:
        """What each query has, best first."""
        return [sorted(own.items(), key=lambda hit: -hit[1]) for own in self._rankings]

    @property
    def used_up(self) -> int:
        """How many rows serve no further query."""
        return len(self._used_up)

    def lacks(self, query: int) -> bool:
        """Say whether a query has fewer than top_k rows."""
        return len(self._rankings[query]) < self._top_k

    def sift(self, numbers: Sequence[int], scores: Scores, rows: RowNumbers) -> Offer:
        """Leave what is used up out of rankings, shape (numbers, depth); numbers are those of the queries."""
        free = (rows != NO_ROW) & ~np.isin(rows, np.array(self._used_up, dtype=np.int64))
        lines, places = np.nonzero(free)
        return Offer(places, np.asarray(numbers, dtype=np.int64)[lines], rows[free], scores[free])

    def share(self, offers: Sequence[Offer]) -> None:
        """Share out rows, of any number of offers at once."""
        places = np.concatenate([offer.places for offer in offers])
        queries = np.concatenate([offer.queries for offer in offers])
        rows = np.concatenate([offer.rows for offer in offers])
        scores = np.concatenate([offer.scores for offer in offers])
        order = np.lexsort((queries, places))
        for query, row, score in zip(
            queries[order].tolist(), rows[order].tolist(), scores[order].tolist(), strict=True
        ):
            own = self._rankings[query]
            if len(own) < self._top_k and row not in own and self._uses[row] < self._reuse:
                own[row] = score
                if self._band[0] <= score <= self._band[1]:
                    self._use(row)

    def _use(self, row: int) -> None:
        self._uses[row] += 1
        if self._uses[row] == self._reuse:
            self._used_up.append(row)
