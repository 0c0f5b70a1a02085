"""A rehearsal: a run in calm weather and the same run in a storm, on one cluster; then the verdict."""

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.grounds import ENVIRONMENT, Grounds
from tests.chaos.runs import LABELS, events, metrics, write_recipe
from tests.chaos.storm import Log, Storm, start
from tests.chaos.verdict import Verdict, judge, planned
from tests.own_cluster import beside_the_session

FAULTS = {
    "replica killed": 6,
    "replica stopped": 5,
    "replica frozen": 5,
    "replica ends itself": 5,
    "engine dead, its actor alive": 5,
    "engine hung, its actor alive": 5,
    "out of memory": 5,
    "call raises": 5,
    "node killed": 6,
    "node taken back after notice": 5,
    "driver killed": 5,
    "cluster lost with its head": 5,
}
MISDEEDS = {"die_on": 1, "hang_on": 1, "stall_on": 1, "raise_on": 1}
"""Kinds of poison, and how many items of the plan's beginning each is in."""
TEACHER: dict[str, Any] = {
    "replicas": 4,
    "num_cpus": 1,
    "hang_timeout": 6,
    "item_timeout": 6,
}
CALM = {"seconds": 0.05, "in_flight": 64}
"""How a teacher works that nothing befalls."""
_NUMBERS = re.compile(r"[0-9a-f]{16,}")


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What came of it."""

    seed: int
    poison: Mapping[str, str]
    calm_seconds: float
    log: Log
    verdict: Verdict
    losses: Mapping[str, int]
    """Replicas lost in the storm, by the reason that the run tells without its numbers."""
    told: Mapping[str, Any]
    """The run's metrics."""

    @property
    def faults(self) -> int:
        """Faults injected; poison is not counted."""
        return self.log.struck.total()

    def table(self) -> str:
        """Return what happened, for people."""
        found, items, rows = self.verdict, self.told["synthesis"]["items"], self.told["synthesis"]["rows"]
        return "\n".join(
            [
                f"Storm of seed {self.seed}: {self.faults} faults in {self.log.seconds:.0f} s "
                f"(calm: {self.calm_seconds:.0f} s)",
                *(f"  {count:>3} × {kind}" for kind, count in sorted(self.log.struck.items())),
                "Poison: " + ", ".join(f"{kind} {text!r}" for kind, text in self.poison.items()),
                f"Drivers: {len(self.log.exits)}, with exit codes {dict(Counter(self.log.exits))}",
                f"Replicas replaced: {self.told['synthesis']['restarts']}; lost because:",
                *(f"  {count:>3} × {reason}" for reason, count in sorted(self.losses.items())),
                f"Items: {items['drawn']} drawn = {items['settled']} settled + {items['failed']} failed "
                f"+ {items['unfinished']} unfinished; {found.items} in the ledger, each in one part",
                f"Rows: {rows['returned']} returned = {rows['accepted']} accepted + {rows['rejected']}",
                f"Dataset: {self.told['dataset']['rows']} rows + surplus {rows['surplus']}; "
                f"{'the same as' if found.same_dataset else 'NOT that'} in calm weather",
                *(f"DEFECT {name}: {len(what)}: {what[:5]}" for name, what in found.defects().items()),
            ]
        )


def rehearse(
    folder: Path,
    seed: int,
    rows_per_label: int,
    seconds: float,
    in_flight: int = 8,
    faults: Mapping[str, int] = FAULTS,
) -> Rehearsal:
    """Run calm and storm in a folder; seconds is the time of a reply in the storm."""
    poison = _poison(folder, rows_per_label)
    settings = {"rows": rows_per_label, "seeds": rows_per_label, **TEACHER, **poison}
    orders = str(folder / "orders")
    calm = write_recipe(folder, "calm", **settings, **CALM)
    stormy = write_recipe(folder, "stormy", **settings, seconds=seconds, in_flight=in_flight, orders=orders)
    rows = rows_per_label * len(LABELS)
    with _environment(ENVIRONMENT), beside_the_session():
        grounds = Grounds()
        try:
            grounds.open()
            calm_seconds = _sail(calm, grounds)
            log = Storm(seed, faults, rows, stormy, folder / "store" / "stormy", grounds).blow(3600)
        finally:
            grounds.close()
    assert not log.defects, f"{log.defects}; the drivers' last words:\n{_last_words(folder)}"
    lost = events(folder, "stormy", "replica_lost")
    return Rehearsal(
        seed=seed,
        poison=poison,
        calm_seconds=calm_seconds,
        log=log,
        verdict=judge(folder, "stormy", "calm", poison),
        losses=Counter(_NUMBERS.sub("…", str(event["reason"]))[:70] for event in lost),
        told=metrics(folder, "stormy"),
    )


def _sail(recipe: Path, grounds: Grounds) -> float:
    """Run to the end in calm weather, and return the seconds it took."""
    began = time.monotonic()
    code = start(recipe, grounds.address).wait(1800)
    assert code == 0, f"calm run ended with {code}; its last words:\n{_last_words(recipe.parent)}"
    return time.monotonic() - began


def _poison(folder: Path, rows_per_label: int) -> dict[str, str]:
    """Choose for every misdeed a seed that so many items show, of those that every run draws."""
    recipe = write_recipe(folder, "calm", rows_per_label, rows_per_label)
    # About a third of the replies are rejected, so more items are drawn than there are rows to be had.
    items = planned(recipe, rows_per_label * len(LABELS) * 3 // 2)
    first, shown = Counter[str](), Counter[str]()
    for item in items:
        for shot in item.shots:
            shown[shot.text] += 1
            first[shot.text] += item.position < len(items) * 2 // 3
    chosen: dict[str, str] = {}
    for misdeed, count in MISDEEDS.items():
        fit = (text for text, n in shown.items() if n == first[text] == count)
        chosen[misdeed] = next(text for text in fit if text not in chosen.values())
    return chosen


def _last_words(folder: Path) -> str:
    return (folder / "drivers.log").read_text(errors="replace")[-4000:]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
