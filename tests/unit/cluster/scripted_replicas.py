"""Replicas that are plain objects and follow a script, and a pool that works through a night with them."""

import asyncio
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cluster.pool import Outcome, Pool, PoolSettings, Work


class Replica:
    """Does at each call what its script says: go on, raise an error, time out, or wait for ever (None)."""

    def __init__(self, place: int, script: list[Any], speed: int) -> None:
        self.place, self.script, self.speed = place, script, speed
        self.held: list[str] = []
        self.called: list[str] = []
        self.lots: list[tuple[int, int, bool]] = []
        self.killed = False
        for name in ("load", "exchange", "drop", "stop"):
            setattr(self, name, SimpleNamespace(remote=getattr(self, f"_{name}")))

    async def _act(self, name: str) -> Any:
        assert not self.killed
        self.called.append(name)
        step = self.script.pop(0) if self.script else "go on"
        if step is None:
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        return step

    async def _load(self) -> str:
        await self._act("load")
        return "node"

    async def _exchange(self, items: list[Any], hurry: bool) -> Outcome:
        self.held += [item.id for item in items]
        self.lots.append((len(items), len(self.held), hurry))
        if await self._act("exchange") == "time out":
            late, self.held = tuple(self.held), []
            return Outcome(None, (), tuple((name, "no reply") for name in late), late)
        ready, self.held = self.held[: self.speed], self.held[self.speed :]
        # Every third item raises: the pool has to let go of it as of any other.
        bad = tuple((name, "bad") for name in ready if not int(name) % 3)
        return Outcome(None, tuple(name for name in ready if int(name) % 3), bad)

    async def _drop(self) -> None:
        await self._act("drop")

    async def _stop(self) -> None:
        await self._act("stop")


@dataclass
class Night:
    """A pool over work for numbered items; the n-th replica that starts follows the n-th script."""

    items: int
    replicas: int = 1
    scripts: list[list[Any]] = field(default_factory=list)
    speed: int = 100
    in_flight: int = 8
    enough: int | None = None
    breaks: Exception | None = None

    def __post_init__(self) -> None:
        self.waiting: list[Any] = [SimpleNamespace(id=str(n)) for n in range(self.items)]
        self.settled: Counter[str] = Counter()
        self.lost_items: list[tuple[list[str], str]] = []
        self.started: list[Replica] = []
        self.events: list[str] = []
        shape = PoolSettings(self.replicas, self.in_flight, hang_timeout=0.1)
        self.pool = Pool(self.start, shape, lambda kind, **_: self.events.append(kind))

    def start(self, place: int) -> Replica:
        script = self.scripts[len(self.started)] if len(self.started) < len(self.scripts) else []
        self.started.append(Replica(place, list(script), self.speed))
        return self.started[-1]

    def next_lot(self, size: int, held: Collection[str]) -> Sequence[Work]:
        lot, self.waiting = self.waiting[:size], self.waiting[size:]
        return lot

    def settle(self, outcome: Outcome) -> None:
        if self.breaks is not None:
            raise self.breaks
        self.settled.update((*outcome.settled, *(item_id for item_id, _ in outcome.errors)))

    def lost(self, items: Sequence[Work], reason: str) -> None:
        self.waiting = [*items, *self.waiting]
        self.lost_items.append(([item.id for item in items], reason))

    def done(self) -> bool:
        return self.settled.total() >= (self.items if self.enough is None else self.enough)

    def work(self) -> "Night":
        async def whole() -> None:
            try:
                async with asyncio.timeout(20):
                    await self.pool.run(self)
            finally:
                await self.pool.close()

        asyncio.run(whole())
        return self

    @property
    def all_once(self) -> bool:
        return self.settled == Counter(str(n) for n in range(self.items))
