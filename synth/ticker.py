"""What is looked at a few times a second while work goes on: progress, occupancy, and limits of time."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cluster.budget import Budget
from cluster.pool import Pool
from cluster.progress import Progress
from cluster.work import Loaded, Vitals
from synth.feed import Feed
from synth.limits import HOUR, Limits
from synth.pipeline import ItemSource


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


class Ticker:
    """Tells how far the run is."""

    def __init__(self, progress: Progress, source: ItemSource, pool: Pool, watch: Watch) -> None:
        self._progress = progress
        self._source = source
        self._pool = pool
        self._watch = watch
        self._began: float | None = None
        self.occupancy = Occupancy()

    def tick(self) -> None:
        """Show one line: rows, speed, rejections, replicas, time left, and the label that lags most."""
        self._watch.look(self._source)
        self.occupancy.look(self._source.vitals, self._pool.loaded)
        if self._pool.alive and self._began is None:
            self._began = time.monotonic()
        planner, tally = self._source.planner, self._source.tally
        targets, filled = planner.quota.targets, planner.filled()
        rows, wanted = sum(filled.values()), sum(targets.values())
        seconds = max(1e-6, time.monotonic() - (self._began or time.monotonic()))
        speed = tally.rows["accepted"] / seconds
        left = (wanted - rows) / speed if speed > 0 else None
        last = min(filled, key=lambda label: filled[label] / max(1, targets[label]))
        self._progress.live(
            "synthesis",
            f"Rows {rows}/{wanted} | {speed:.2f} rows/s | {tally.reply_tokens / seconds:.0f} tok/s | "
            f"rejected {tally.rows['rejected']} failed {tally.rows['failed']} | "
            f"replicas {self._pool.alive}{_running(self._source.vitals, self._pool.loaded)} | "
            f"ETA {_clock(left)} | {last} {filled[last]}/{targets[last]}",
            kept=filled,
            rows=dict(tally.rows),
            reply_tokens=tally.reply_tokens,
            replicas=self._pool.alive,
            restarts=self._pool.restarts,
            running=sum(each.running for each in self._source.vitals.values()),
            occupancy=self.occupancy.share,
            eta_seconds=left,
        )


def _running(vitals: Mapping[str, Vitals], loaded: Mapping[str, Loaded]) -> str:
    seats = sum(each.seats for each in loaded.values())
    return f" running {sum(each.running for each in vitals.values())}/{seats}" if seats else ""


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
