"""What every kind of retrieval does: rank the rows of an index for queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from retrieval.layout import RowNumbers

Scores = npt.NDArray[np.float32]

NO_ROW = -1
"""Fills the end of a ranking that has fewer rows than were asked for; its score is -inf."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which documents may be found: a range of tokens, both ends included, and values of metadata."""

    tokens: tuple[int, int] | None = None
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether every document may be found."""
        return self.tokens is None and not self.where


class Ranker(Protocol):
    """One kind of retrieval over one index. The caller has connected to Ray."""

    async def rank(self, queries: Sequence[str], top_k: int, allowed: Filter) -> tuple[Scores, RowNumbers]:
        """Return scores and rows, both (queries, at most top_k), best first, padded with -inf and NO_ROW."""
