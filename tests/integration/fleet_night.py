"""The driver of a pool on a cluster that a test changes; ends when the test writes `stop` into its folder.

python -m tests.integration.fleet_night ADDRESS FOLDER TEACHER
"""

import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from cluster.pool import Pool, PoolSettings
from cluster.session import connected
from cluster.work import Outcome, Vitals, Work
from synth.methods.fewgen import FewGenSettings
from synth.records import Call, Message, Sampling
from synth.replicas import RayFleet
from synth.task import load_task
from synth.teachers.scripted import ScriptedSettings
from synth.worker import Assignment

TASK = Path(__file__).parents[2] / "jobs" / "recipes" / "demo" / "task.yaml"


class Calls:
    """Calls without end; each has to be settled once."""

    def __init__(self, folder: Path) -> None:
        self.settled: Counter[str] = Counter()
        self.by: Counter[str] = Counter()
        self.lost_with: Counter[bool] = Counter()
        self._folder = folder
        self._fresh = (
            Call(f"{n:032x}", [Message("user", f"say {n}")], Sampling()) for n in itertools.count()
        )
        self._again: list[Work] = []
        self.aloft: set[str] = set()

    def next_lot(self, replica: str, size: int, held: Collection[str]) -> Sequence[Work]:
        lot: list[Work] = [self._again.pop() if self._again else next(self._fresh) for _ in range(size)]
        self.aloft.update(work.id for work in lot)
        return lot

    def grant(self, replica: str) -> tuple[float, ...]:
        return ()

    def settle(self, replica: str, outcome: Outcome) -> None:
        assert not outcome.errors, outcome.errors
        self.aloft.difference_update(outcome.settled)
        self.settled.update(outcome.settled)
        self.by[replica] += len(outcome.settled)

    def lost(self, replica: str, items: Sequence[Work], reason: str, innocent: bool) -> None:
        self._again += items
        self.aloft.difference_update(item.id for item in items)
        self.lost_with[innocent] += 1

    def ended(self, replica: str, vitals: Vitals) -> None:
        pass

    def done(self) -> bool:
        return (self._folder / "stop").exists()


async def night(folder: Path, teacher: ScriptedSettings) -> dict[str, Any]:
    """Work until told to stop; return what was done."""
    assignment = Assignment(load_task(TASK, Path()), FewGenSettings(), teacher, teacher.check())
    fleet, calls = RayFleet(assignment), Calls(folder)

    def report(kind: str, **told: Any) -> None:
        with (folder / "events.jsonl").open("a") as file:
            file.write(json.dumps({"kind": kind, "at": time.time(), **told}) + "\n")

    pool = Pool(fleet, PoolSettings(teacher.in_flight, teacher.hang_timeout), report)
    report("begun", places=fleet.places(), gpus=fleet.gpus, asks=fleet.asks())
    try:
        await pool.run(calls)
        spread = [sorted(fleet.nodes(each.actor)) for each in pool._crew.replicas]
    finally:
        await pool.close()
    return {
        "doubled": sum(times > 1 for times in calls.settled.values()),
        "settled": calls.settled.total(),
        "by": calls.by,
        "lost": {"innocent": calls.lost_with[True], "other": calls.lost_with[False]},
        "restarts": pool.restarts,
        "replica_seconds": pool.replica_seconds,
        "spread": spread,
    }


if __name__ == "__main__":
    with connected(sys.argv[1]):
        print(json.dumps(asyncio.run(night(Path(sys.argv[2]), ScriptedSettings(**json.loads(sys.argv[3]))))))
