"""What the pool does with replicas that work, die, hang, or never start; replicas here are plain objects."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import pool as pool_module
from cluster.errors import LeaseLost, ModelError, TooManyFailures
from cluster.pool import LOT, START_ATTEMPTS, Outcome, Pool, PoolSettings, Work


@dataclass
class Queue:
    """Work that is handed out in order, and taken back first when a replica is lost."""

    waiting: list[Any]
    settled: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    lots: list[tuple[int, int]] = field(default_factory=list)
    enough: int = 0

    def next_lot(self, size: int, held: Collection[str]) -> Sequence[Work]:
        lot, self.waiting = self.waiting[:size], self.waiting[size:]
        assert not held & {item.id for item in lot}
        self.lots.append((len(lot), len(lot) + len(held)))
        return lot

    def settle(self, outcome: Outcome) -> None:
        self.settled.update(outcome.settled)
        self.settled.update(item_id for item_id, _ in outcome.errors)

    def lost(self, items: Sequence[Work], reason: str) -> None:
        self.waiting = [*items, *self.waiting]
        self.reasons.append(reason)

    def done(self) -> bool:
        return self.settled.total() >= self.enough


class Replica:
    """Finishes what it is given, some of it at each exchange; `act` may raise, wait, or do nothing first."""

    def __init__(self, act: Callable[[str], Awaitable[None]], per_exchange: int = 100) -> None:
        self.held: list[str] = []
        self.hurries: list[bool] = []
        self.called: list[str] = []
        self._act = act
        self._per_exchange = per_exchange

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(type(self), f"on_{name}").__get__(self))

    async def _do(self, name: str) -> None:
        self.called.append(name)
        await self._act(name)

    async def on_load(self) -> str:
        await self._do("load")
        return "node"

    async def on_exchange(self, items: list[Any], hurry: bool) -> Outcome:
        self.held += [item.id for item in items]
        self.hurries.append(hurry)
        await self._do("exchange")
        ready, self.held = self.held[: self._per_exchange], self.held[self._per_exchange :]
        # Every third item fails: a pool has to let go of it as of any other.
        fine = tuple(name for name in ready if int(name) % 3)
        return Outcome(None, fine, tuple((name, "bad") for name in ready if not int(name) % 3))

    async def on_drop(self) -> None:
        await self._do("drop")

    async def on_stop(self) -> None:
        await self._do("stop")


class Cluster:
    """Starts replicas that act as a test says; keeps who was started, who was killed, what was reported."""

    def __init__(self, act: Callable[[int, int, str], Awaitable[None]], per_exchange: int = 100) -> None:
        self.started: list[tuple[int, Replica]] = []
        self.killed: list[Replica] = []
        self.events: list[str] = []
        self._act = act
        self._per_exchange = per_exchange

    def start(self, place: int) -> Replica:
        number = len(self.started)
        replica = Replica(lambda name: self._act(place, number, name), self._per_exchange)
        self.started.append((place, replica))
        return replica

    def pool(self, replicas: int, in_flight: int = 8, hang_timeout: float = 5.0) -> Pool:
        shape = PoolSettings(replicas, in_flight, hang_timeout)
        return Pool(self.start, shape, lambda kind, **_: self.events.append(kind))


CLUSTERS: list[Cluster] = []
