"""Feeding a replica pool: new work, and before it what has to be tried again, all of it within a budget."""

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow as pa

from cluster.budget import Budget
from cluster.work import Outcome, Vitals, Work
from synth.rows import Tokens
from synth.suspects import Suspects

W = TypeVar("W", bound=Work)

SMOOTHING = 0.02
"""Weight of the newest piece of work in the average."""


@dataclass(slots=True)
class Tally:
    """Live counts of this sitting, for progress and the books."""

    rows: Counter[str] = field(default_factory=Counter)
    """Rows by status, and rejections as `rejected:<reason>`."""
    tokens: Tokens = field(default_factory=Tokens)


class Feed(ABC, Generic[W]):
    """Keeps the books of what is aloft: all work handed out is settled, set aside, or handed out again."""

    def __init__(self, budget: Budget) -> None:
        self.stopped: str | None = None
        """The limit that ended the work before all was done."""
        self.tally = Tally()
        self.seconds = 0.0
        """How long a piece of work takes, averaged over the last ones."""
        self._budget = budget
        self._aloft: dict[str, tuple[W, float]] = {}
        """Work handed out, and when."""
        self._closing: str | None = None
        self._suspects: Suspects[W] = Suspects()
        self.vitals: dict[str, Vitals] = {}
        """What every living replica told last."""

    @abstractmethod
    def complete(self) -> bool:
        """Say whether all is done that was wanted."""

    @abstractmethod
    def _fresh(self) -> W | None:
        """Return work that was never handed out; None while there is none."""

    @abstractmethod
    def _take(self, settled: Sequence[str], rows: pa.RecordBatch) -> None:
        """Take in the rows of what was settled."""

    @abstractmethod
    def _set_aside(self, work: W, reason: str) -> None:
        """Take note of work that cannot be done."""

    def next_lot(self, replica: str, size: int, held: Collection[str]) -> list[W]:
        lot: list[W] = []
        if self._closing or self.done():
            return lot
        now = time.monotonic()
        aboard = set(held) if self._suspects else held
        while len(lot) < size and not (self._suspects and self._suspects.closed(replica, aboard)):
            work = (self._suspects.next(replica, aboard) if self._suspects else None) or self._fresh()
            if work is None:
                break
            self._aloft[work.id] = work, now
            lot.append(work)
            if self._suspects:
                aboard = {*aboard, work.id}
        if not lot:
            self._budget.rest(replica)
        return lot

    def grant(self, replica: str) -> tuple[float, ...]:
        return self._budget.grant(replica)

    def settle(self, replica: str, outcome: Outcome) -> None:
        self.vitals[replica] = outcome.vitals
        self._budget.hear(replica, outcome.vitals)
        now = time.monotonic()
        for item_id in outcome.settled:
            _, began = self._aloft.pop(item_id)
            self.seconds += ((now - began) - self.seconds) * (SMOOTHING if self.seconds else 1.0)
            self._suspects.settled(item_id)
        if outcome.rows is not None:
            self.tally.tokens = self.tally.tokens.plus(Tokens.of(outcome.rows))
            self._take(outcome.settled, outcome.rows)
        for item_id, message in outcome.errors:
            work, _ = self._aloft.pop(item_id)
            if self._suspects.raised(work):
                self._set_aside(work, message)

    def lost(self, replica: str, items: Sequence[Work], reason: str, innocent: bool) -> None:
        for item in items:
            work, _ = self._aloft.pop(item.id)
            if self._suspects.died(work, innocent):
                self._set_aside(work, f"its replica was lost: {reason}")
        self._leave(replica, None)

    def ended(self, replica: str, vitals: Vitals) -> None:
        self._leave(replica, vitals)

    def done(self) -> bool:
        if self.stopped is None and not self.complete():
            self.stopped = self._closing if self._closing and not self._aloft else self._budget.exhausted()
        return self.stopped is not None or self.complete()

    def close_in(self, seconds: float, limit: str) -> None:
        """Hear how long a limit leaves: nothing is begun that would not end in time."""
        if seconds <= 0:
            self.stopped = self.stopped or limit
        elif seconds < self.seconds:
            self._closing = limit

    def unfinished(self) -> int:
        """Count the work handed out or to be tried again whose rows are not needed any more."""
        return len(self._aloft) + len(self._suspects)

    def _leave(self, replica: str, vitals: Vitals | None) -> None:
        self.vitals.pop(replica, None)
        self._suspects.left(replica)
        self._budget.close(replica, vitals)
