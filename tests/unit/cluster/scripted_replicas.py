"""Replicas that are plain objects and follow a script, and a pool that works through a night with them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cluster.pool import Pool, PoolSettings
from cluster.work import Loaded, Outcome, Vitals, Work

SEATS = 5
BEAT = 0.002


class Replica:
    """Does at each call what its script says: go on, raise an error, time out, or wait for ever (None).

    A function in a script is called, and the call goes on. `where` has room to wait for and no script.
    """

    def __init__(self, node: str, script: list[Any], speed: int, room: asyncio.Semaphore | None) -> None:
        self.node, self.script, self.speed, self.room = node, script, speed, room
        self.held: list[str] = []
        self.called: list[str] = []
        self.lots: list[tuple[int, int, bool]] = []
        self.granted: list[tuple[float, ...]] = []
        self.killed = False
        self.beat = 0.0
        for name in ("where", "load", "exchange", "drop", "stop"):
            setattr(self, name, SimpleNamespace(remote=getattr(self, f"_{name}")))

    async def _act(self, name: str) -> Any:
        assert not self.killed
        self.called.append(name)
        step = self.script.pop(0) if self.script else "go on"
        if step is None:
            await asyncio.Event().wait()
        if isinstance(step, Exception):
            raise step
        return step() if callable(step) else step

    async def _where(self) -> str:
        if self.room is not None:
            await self.room.acquire()
        return self.node

    async def _load(self) -> Loaded:
        await self._act("load")
        return Loaded(self.node, in_flight=8, seats=SEATS)

    async def _exchange(self, items: list[Any], hurry: bool, granted: tuple[float, ...]) -> Outcome:
        self.held += [item.id for item in items]
        self.lots.append((len(items), len(self.held), hurry))
        self.granted.append(granted)
        if await self._act("exchange") == "time out":
            late, self.held = tuple(self.held), []
            return Outcome(None, (), tuple((name, "no reply") for name in late), late)
        await asyncio.sleep(self.beat)
        ready, self.held = self.held[: self.speed], self.held[self.speed :]
        # Every third item raises: the pool has to let go of it as of any other.
        bad = tuple((name, "bad") for name in ready if not int(name) % 3)
        return Outcome(None, tuple(name for name in ready if int(name) % 3), bad)

    async def _drop(self) -> Vitals:
        await self._act("drop")
        return Vitals(used=(float(len(self.called)),))

    async def _stop(self) -> None:
        await self._act("stop")


@dataclass
class Night:
    """A pool over work for numbered items, and the fleet: the n-th replica to start follows the n-th script.

    It runs on a node of its own, `node-<n>`.
    """

    items: int
    replicas: int = 1
    scripts: list[list[Any]] = field(default_factory=list)
    speed: int = 100
    in_flight: int | None = 8
    enough: int | None = None
    breaks: Exception | None = None
    room: asyncio.Semaphore | None = None
    """Room for so many replicas; without one, all have room."""
    beat: float = 0.0
    """Seconds of an exchange."""

    def __post_init__(self) -> None:
        self.waiting: list[Any] = [SimpleNamespace(id=str(n)) for n in range(self.items)]
        self.aloft: set[str] = set()
        """Handed out, and neither settled nor lost."""
        self.settled: Counter[str] = Counter()
        self.lost_items: list[tuple[list[str], str, bool]] = []
        self.accounts: list[tuple[str, str]] = []
        self.started: list[Replica] = []
        self.going: dict[str, float] = {}
        self.gone: set[str] = set()
        self.events: list[str] = []
        self.told: list[dict[str, Any]] = []
        self.later: Callable[[], None] = lambda: None
        """Called at every question for more work."""
        self.pool = Pool(self, PoolSettings(self.in_flight, hang_timeout=0.1), self._report)

    def _report(self, kind: str, **told: Any) -> None:
        self.events.append(kind)
        self.told.append({"kind": kind, **told})

    def places(self) -> int:
        return self.replicas

    def start(self) -> Replica:
        number = len(self.started)
        script = self.scripts[number] if number < len(self.scripts) else []
        self.started.append(Replica(f"node-{number}", list(script), self.speed, self.room))
        self.started[-1].beat = self.beat
        return self.started[-1]

    def end(self, replica: Replica) -> None:
        assert not replica.killed
        replica.killed = True

    def asks(self) -> str:
        return "4 GPUs"

    def nodes(self, replica: Replica) -> Collection[str]:
        return {f"{replica.node}-beside"}

    def leaving(self) -> Mapping[str, float]:
        return self.going

    def alive(self, node: str) -> bool:
        return node not in self.gone

    def next_lot(self, replica: str, size: int, held: Collection[str]) -> Sequence[Work]:
        self.later()
        lot, self.waiting = self.waiting[:size], self.waiting[size:]
        assert self.aloft.isdisjoint(item.id for item in lot)
        self.aloft.update(item.id for item in lot)
        return lot

    def grant(self, replica: str) -> tuple[float, ...]:
        return (7.0,)

    def settle(self, replica: str, outcome: Outcome) -> None:
        if self.breaks is not None:
            raise self.breaks
        for item_id in (*outcome.settled, *(item_id for item_id, _ in outcome.errors)):
            self.aloft.remove(item_id)
            self.settled[item_id] += 1

    def lost(self, replica: str, items: Sequence[Work], reason: str, innocent: bool) -> None:
        self.aloft.difference_update(item.id for item in items)
        self.waiting = [*items, *self.waiting]
        self.lost_items.append(([item.id for item in items], reason, innocent))
        self.accounts.append((replica, "lost"))

    def ended(self, replica: str, vitals: Vitals) -> None:
        assert vitals.used
        self.accounts.append((replica, "ended"))

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
