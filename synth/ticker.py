"""What is looked at a few times a second while work goes on: progress, occupancy, and limits of time."""

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from cluster.budget import Budget
from cluster.pool import Pool
from cluster.progress import Progress
from cluster.work import Loaded, Vitals
from synth.feed import Feed, Tally
from synth.limits import HOUR, Limits
from synth.pipeline import ItemSource
from synth.rows import Tokens
from synth.telling import KIND, Speed, Telling

WINDOW_SECONDS = 60.0
NOTHING = Tokens()
MARK_SECONDS = 1.0
"""How far apart the marks are from which the speed over the window is told."""


@dataclass(slots=True)
class Occupancy:
    """How full the engines were while work waited in them, over all looks at all replicas."""

    running: int = 0
    seats: int = 0

    def look(self, vitals: Mapping[str, Vitals], loaded: Mapping[str, Loaded]) -> None:
        """Take in how many requests run where others wait."""
        for replica, each in vitals.items():
            if each.waiting and replica in loaded:
                self.running += each.running
                self.seats += loaded[replica].seats

    @property
    def share(self) -> float | None:
        """Requests running over requests that could run; None when none ever waited."""
        return self.running / self.seats if self.seats else None


class Watch:
    """Counts time and GPU-time, and tells a feed how long the limits leave it."""

    def __init__(self, limits: Limits, budget: Budget, pool: Pool, gpus: float) -> None:
        self._limits = limits
        self._budget = budget
        self._pool = pool
        self._gpus = gpus
        self._began = time.monotonic()

    def look(self, feed: Feed[Any]) -> None:
        """Take the time; on a limit the feed is closed."""
        limits, clock, now = self._limits, self._budget.clock, time.time()
        clock.add(self._pool.replica_seconds * self._gpus, time.monotonic() - self._began)
        if limits.money is not None:
            # What GPUs cost is not in the purses: it narrows what tokens may cost.
            self._budget.set_limit("money", limits.money - clock.gpu_money(limits))
        over = clock.over(limits, now, self._budget.committed.get("money", 0.0))
        if over is not None:
            feed.close_in(0, over)
        for name, left in self._left(now).items():
            feed.close_in(left, name)

    def costs(self, tokens: Tokens) -> dict[str, Any]:
        """Return what the run has cost so far, as in `metrics.json`."""
        return self._limits.costs(self._budget, tokens)

    def _left(self, now: float) -> dict[str, float]:
        """Return the seconds that each limit of time leaves."""
        limits, clock = self._limits, self._budget.clock
        left = {}
        if (end := limits.ends(clock.started)) is not None:
            left["deadline"] = end - now
        if limits.hours is not None:
            left["hours"] = limits.hours * HOUR - clock.seconds
        busy = self._gpus * max(1, self._pool.alive)
        if limits.gpu_hours is not None and busy:
            left["gpu_hours"] = (limits.gpu_hours * HOUR - clock.gpu_seconds) / busy
        return left


class _Mark(NamedTuple):
    """How much there was at a moment."""

    time: float
    filled: int
    accepted: int
    prompt_tokens: int
    reply_tokens: int

    def since(self, first: "_Mark") -> Speed:
        seconds = max(1e-6, self.time - first.time)
        counts = (self.accepted, self.prompt_tokens, self.reply_tokens)
        earlier = (first.accepted, first.prompt_tokens, first.reply_tokens)
        return Speed(*((a - b) / seconds for a, b in zip(counts, earlier, strict=True)))


class Pace:
    """Speeds over the last minute, and since the first replica was loaded."""

    def __init__(self) -> None:
        self._marks: deque[_Mark] = deque()
        self._began: _Mark | None = None

    def look(self, tally: Tally, filled: int, loaded: bool) -> None:
        """Take in how much there is by now; the clock starts with the first replica."""
        now = time.monotonic()
        mark = _Mark(now, filled, tally.rows["accepted"], tally.tokens.prompt, tally.tokens.reply)
        if self._began is None:
            if not loaded:
                return
            self._began = mark
        marks = self._marks
        if len(marks) > 1 and marks[-1].time - marks[-2].time < MARK_SECONDS:
            marks.pop()
        marks.append(mark)
        # The oldest mark is one window old: the next one is younger.
        while len(marks) > 2 and now - marks[1].time >= WINDOW_SECONDS:
            marks.popleft()

    def now(self) -> Speed | None:
        """Return the speed over the window; None before anything is loaded."""
        return self._marks[-1].since(self._marks[0]) if self._marks else None

    def average(self) -> Speed:
        """Return the speed since the first replica was loaded."""
        return self._marks[-1].since(self._began) if self._marks and self._began else Speed()

    def filling(self) -> float:
        """Return how many rows a second come to count: over the window or, if none did, since the start."""
        for first in (self._marks[0], self._began) if self._marks else ():
            if first and (grown := self._marks[-1].filled - first.filled) > 0:
                return grown / max(1e-6, self._marks[-1].time - first.time)
        return 0.0


class Ticker:
    """Tells how far the run is."""

    def __init__(
        self,
        progress: Progress,
        source: ItemSource,
        pool: Pool,
        watch: Watch,
        tokens: Tokens = NOTHING,
    ) -> None:
        """tokens: those that were used before what the source counts."""
        self._progress = progress
        self._source = source
        self._pool = pool
        self._watch = watch
        self._tokens = tokens
        self._pace = Pace()
        self.occupancy = Occupancy()

    def tick(self) -> None:
        """Show how far the run is: on a terminal bars and speeds, elsewhere one line."""
        self._watch.look(self._source)
        self.occupancy.look(self._source.vitals, self._pool.loaded)
        telling = self.telling()
        self._progress.live(KIND, telling.line(), partial(_panel, telling), **telling.as_event())

    def telling(self) -> Telling:
        """Return how far the run is."""
        planner, tally = self._source.planner, self._source.tally
        targets, filled, pace = planner.quota.targets, planner.filled(), self._pace
        pace.look(tally, sum(filled.values()), bool(self._pool.alive))
        left, speed = sum(targets.values()) - sum(filled.values()), pace.filling()
        vitals = list(self._source.vitals.values())
        gpus = [each.gpu for each in vitals if each.gpu is not None]
        return Telling(
            kept=filled,
            targets=targets,
            rows=dict(tally.rows),
            prompt_tokens=tally.tokens.prompt,
            reply_tokens=tally.tokens.reply,
            now=pace.now(),
            average=pace.average(),
            replicas=self._pool.alive,
            restarts=self._pool.restarts,
            running=sum(each.running for each in vitals),
            waiting=sum(each.waiting for each in vitals),
            seats=sum(each.seats for each in self._pool.loaded.values()),
            occupancy=self.occupancy.share,
            gpu=sum(gpus) / len(gpus) if gpus else None,
            eta_seconds=left / speed if speed > 0 else None,
            costs=self._watch.costs(self._tokens.plus(tally.tokens)),
        )


def _panel(telling: Telling) -> object:
    # Only a terminal needs what draws.
    from synth.panel import Panel

    return Panel(telling, fit=True)
