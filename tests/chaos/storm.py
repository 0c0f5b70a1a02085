"""A seeded storm: one run, struck by faults of every kind until its driver ends with nothing left to do."""

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from cluster.lease import valid_parts
from cluster.storage import LocalStore
from tests.chaos.grounds import Grounds

ROOT = Path(__file__).parents[2]
ORDERED = {
    "engine dead, its actor alive": "engine-dies",
    "engine hung, its actor alive": "engine-hangs",
    "out of memory": "out-of-memory",
    "call raises": "raise",
    "replica frozen": "freeze",
    "replica ends itself": "die",
}
"""Faults that an engine commits on order."""
SPAN = 0.7
"""The last fault is due when this share of the rows is settled."""
NOTICE_SECONDS = 4.0
DRIVER_ENDS_SECONDS = 120.0
"""So long a driver without a head may take to end."""
PATIENCE_SECONDS = 240.0
"""A run in which nothing is settled for so long has come to a standstill."""


@dataclass(slots=True)
class Log:
    """What happened."""

    struck: Counter[str] = field(default_factory=Counter)
    """Faults by kind."""
    exits: list[int] = field(default_factory=list)
    """Exit codes of all drivers in order; -9 is one that the storm killed."""
    defects: list[str] = field(default_factory=list)
    """What must not happen: a driver that gives up, never ends, or makes no headway."""
    seconds: float = 0.0


class Storm:
    """Strikes one run; every driver is started by the very same command."""

    def __init__(
        self, seed: int, faults: Mapping[str, int], rows: int, recipe: Path, run: Path, grounds: Grounds
    ) -> None:
        self.log = Log()
        self._grounds = grounds
        self._recipe = recipe
        self._ledger = _Gauge(LocalStore(run))
        self._orders = recipe.parent / "orders"
        self._rng = random.Random(seed)
        self._due = self._forecast(faults, rows)
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._deeds: dict[str, Callable[[], bool]] = {
            "replica killed": lambda: grounds.kill_replica(self._rng),
            "replica stopped": lambda: grounds.stop_replica(self._rng),
            "node killed": self._kill_node,
            "node taken back after notice": self._take_node_back,
            "driver killed": self._kill_driver,
            "cluster lost with its head": self._lose_cluster,
        }

    def blow(self, timeout: float) -> Log:
        """Run the drivers and strike until one ends in good order, or a defect shows."""
        began = time.monotonic()
        self._orders.mkdir(exist_ok=True)
        self._launch()
        while (code := self._driver.poll()) != 0 and not self.log.defects:
            if time.monotonic() - began > timeout:
                self.log.defects.append(f"the run did not end within {timeout:.0f} s")
            elif code is not None:
                self.log.defects.append(f"a driver ended by itself with {code}")
            elif self._ledger.still_for() > PATIENCE_SECONDS:
                self.log.defects.append(f"nothing was settled for {PATIENCE_SECONDS:.0f} s")
            else:
                self._strike()
                time.sleep(0.1)
        self._driver.kill()
        self.log.exits.append(self._driver.wait())
        taken = self._orders / "taken"
        for kind, order in ORDERED.items():
            self.log.struck[kind] = len(list(taken.glob(f"{order}-*")))
        self.log.seconds = time.monotonic() - began
        return self.log

    def _forecast(self, faults: Mapping[str, int], rows: int) -> list[tuple[float, str]]:
        """Return every fault with the number of rows at which it is due, the first one first."""
        kinds = [kind for kind, count in faults.items() for _ in range(count)]
        self._rng.shuffle(kinds)
        step = SPAN * rows / max(1, len(kinds))
        return [((number + self._rng.random()) * step, kind) for number, kind in enumerate(kinds)]

    def _strike(self) -> None:
        now = time.monotonic()
        for entry in [entry for entry in self._later if entry[0] <= now]:
            self._later.remove(entry)
            entry[1]()
        rows = self._ledger.rows()
        if not self._due or rows < self._due[0][0]:
            return
        # Under a driver that is still starting there is nothing to strike but the driver itself.
        if rows <= self._rows_at_launch and self._due[0][1] != "driver killed":
            return
        time.sleep(self._rng.uniform(0, 0.5))
        _, kind = self._due.pop(0)
        if kind in ORDERED:
            (self._orders / f"{ORDERED[kind]}-{len(self._due):04d}").touch()
        elif self._deeds[kind]():
            self.log.struck[kind] += 1
        else:
            # Nothing there to be struck just now: another time.
            self._due.insert(min(3, len(self._due)), (rows, kind))

    def _launch(self) -> None:
        self._rows_at_launch = self._ledger.rows()
        self._ledger.moved()
        self._driver = start(self._recipe, self._grounds.address)

    def _kill_node(self) -> bool:
        nodes = self._grounds.steady()
        if len(nodes) < 2:
            return False
        self._grounds.lose(self._rng.choice(nodes))
        self._after(self._rng.uniform(0, 2), self._grounds.join)
        return True

    def _take_node_back(self) -> bool:
        nodes = self._grounds.steady()
        if len(nodes) < 2:
            return False
        node = self._rng.choice(nodes)
        told = self._grounds.tell_to_go(node, NOTICE_SECONDS)
        if told:
            self._after(NOTICE_SECONDS, lambda: self._grounds.lose(node))
            self._after(NOTICE_SECONDS, self._grounds.join)
        return told

    def _kill_driver(self) -> bool:
        self._driver.kill()
        self.log.exits.append(self._driver.wait())
        self._launch()
        return True

    def _lose_cluster(self) -> bool:
        self._grounds.lose_head()
        try:
            code = self._driver.wait(DRIVER_ENDS_SECONDS)
        except subprocess.TimeoutExpired:
            self.log.defects.append(f"a driver without a head lived on for {DRIVER_ENDS_SECONDS:.0f} s")
            return True
        self.log.exits.append(code)
        if code == 0:
            self.log.defects.append("a driver whose cluster was lost ended with 0")
        self._later.clear()
        self._grounds.close()
        self._grounds.open()
        self._launch()
        return True

    def _after(self, seconds: float, deed: Callable[[], None]) -> None:
        self._later.append((time.monotonic() + seconds, deed))


def start(recipe: Path, address: str) -> "subprocess.Popen[bytes]":
    """Start a driver in a process of its own; what it says goes to `drivers.log` beside the recipe."""
    command = [sys.executable, "-m", "jobs.synthesize", str(recipe), "--address", address]
    with (recipe.parent / "drivers.log").open("a") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=output)


class _Gauge:
    """Reads off the ledger how many rows are settled."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._known: dict[str, int] = {}
        self._rows = 0
        self._looked = self._moved = time.monotonic()

    def rows(self) -> int:
        """Return the rows in all parts that count; looks twice a second at most."""
        if time.monotonic() - self._looked < 0.5:
            return self._rows
        self._looked = time.monotonic()
        try:
            parts = valid_parts(self._store)
            for key in parts:
                if key not in self._known:
                    self._known[key] = int(pq.read_metadata(self._store.fetch(key)).num_rows)
        except OSError:
            # A part was merged away meanwhile: the next look finds the merged one.
            return self._rows
        rows = sum(self._known[key] for key in parts)
        if rows > self._rows:
            self.moved()
        self._rows = rows
        return rows

    def moved(self) -> None:
        """Take note of headway."""
        self._moved = time.monotonic()

    def still_for(self) -> float:
        """Return the seconds since the last headway."""
        return time.monotonic() - self._moved
