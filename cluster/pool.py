"""The replica pool: replicas pull small lots of work and push finished rows back; any of them may die.

A replica is a Ray actor with `load()`, which returns its node, `exchange(items)`, `drop()` and `stop()`. One
exchange hands items over and returns, as soon as something is finished or a beat has passed, what is
finished: so it is pull, push and heartbeat in one.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from cluster.errors import NightshiftError, TooManyFailures

LOT = 16
START_ATTEMPTS = 3
BARREN_LOSSES = 5
"""How often in a row a place may lose its replica with nothing settled, until it is left empty."""
IDLE_SECONDS = 0.05
STOP_SECONDS = 10.0
START_TIMEOUT = 1800.0
"""Seconds a replica may take to load; a 70B model from a slow disk takes a quarter of an hour."""

log = logging.getLogger(__name__)


class Work(Protocol):
    """Anything with an id that a replica can work."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one exchange returned; rows hold whole items only."""

    rows: pa.RecordBatch | None = None
    settled: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    """(item id, message) of items that raised or timed out."""
    timed_out: tuple[str, ...] = ()
    """Ids of those that timed out."""


class Source(Protocol):
    """Where a pool gets its work and brings the results."""

    def next_lot(self, size: int, held: Collection[str]) -> Sequence[Work]:
        """Return up to size items for a replica that already holds some."""

    def settle(self, outcome: Outcome) -> None:
        """Take in what a replica finished."""

    def lost(self, items: Sequence[Work], reason: str) -> None:
        """Take back the items of a replica that died."""

    def done(self) -> bool:
        """Say whether no more work is to come and none is waited for."""


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Shape of a pool."""

    replicas: int
    in_flight: int
    hang_timeout: float


class Pool:
    """Keeps the replicas of a run; `run` works one source to its end and may be called again."""

    def __init__(
        self, start: Callable[[int], Any], settings: PoolSettings, report: Callable[..., None]
    ) -> None:
        self._start = start
        self._settings = settings
        self._report = report
        self._replicas: dict[int, Any] = {}
        self._given_up: set[int] = set()
        self._barren: dict[int, int] = {}
        """How often in a row a place lost its replica before anything was settled there."""
        self.restarts = 0

    @property
    def alive(self) -> int:
        """Replicas that are loaded."""
        return len(self._replicas)

    async def run(self, source: Source) -> None:
        """Work a source until it is done; TooManyFailures when no replica can be started."""
        try:
            async with asyncio.TaskGroup() as group:
                for index in set(range(self._settings.replicas)) - self._given_up:
                    group.create_task(self._serve(index, source))
        except BaseExceptionGroup as failures:
            # One cause ends a run; the group's wrapping would hide its class from the command line.
            raise failures.exceptions[0] from failures

    async def close(self) -> None:
        """Let all replicas free their engines, then end them."""
        replicas = list(self._replicas.values())
        self._replicas.clear()
        stops = [asyncio.wait_for(_answer(replica.stop.remote()), STOP_SECONDS) for replica in replicas]
        # A replica that does not answer is ended all the same.
        await asyncio.gather(*stops, return_exceptions=True)
        for replica in replicas:
            _kill(replica)

    async def _serve(self, index: int, source: Source) -> None:
        import ray

        while not source.done():
            replica = await self._ready(index, source)
            if replica is None:
                return
            held: dict[str, Work] = {}
            try:
                await self._pull(index, replica, source, held)
                return
            except (ray.exceptions.RayError, TimeoutError) as error:
                reason = str(error) or "no sign of life"
                reason = reason if isinstance(error, TimeoutError) else _first_line(error)
                self._bury(index, reason)
                source.lost(list(held.values()), reason)
                self._barren[index] = self._barren.get(index, 0) + 1
                if self._barren[index] == BARREN_LOSSES:
                    why = f"teacher: replica {index} was lost {BARREN_LOSSES} times without a reply; {reason}"
                    self._give_up(index, why, error)
                    return

    async def _pull(self, index: int, replica: Any, source: Source, held: dict[str, Work]) -> None:
        settled, given = 0, dict[str, int]()
        while not source.done():
            free = self._settings.in_flight - len(held)
            lot = source.next_lot(min(LOT, free), held.keys()) if free > 0 else ()
            held.update((item.id, item) for item in lot)
            given.update((item.id, settled) for item in lot)
            if not held:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            # More free places than one lot: come back at once for the next.
            hurry = len(lot) == LOT and len(held) < self._settings.in_flight
            answer = replica.exchange.remote(list(lot), hurry)
            outcome: Outcome = await asyncio.wait_for(answer, self._settings.hang_timeout)
            for item_id in (*outcome.settled, *(item_id for item_id, _ in outcome.errors)):
                held.pop(item_id, None)
            settled += len(outcome.settled)
            if outcome.settled:
                self._barren.pop(index, None)
            source.settle(outcome)
            if any(given[item_id] == settled for item_id in outcome.timed_out):
                # Nothing else came back either while these waited: it is the engine that hangs, not an item.
                raise TimeoutError("its engine gives no replies")
        if held:
            await asyncio.wait_for(replica.drop.remote(), self._settings.hang_timeout)

    async def _ready(self, index: int, source: Source) -> Any | None:
        """Return the loaded replica of a place, starting it if need be.

        None when the work ended first, or when it cannot be started and other places go on.
        """
        import ray

        if index in self._replicas:
            return self._replicas[index]
        cause: Exception | None = None
        for attempt in range(START_ATTEMPTS):
            await asyncio.sleep(min(2.0 * attempt, 30))
            replica = self._start(index)
            try:
                node = await _loaded(replica, source)
                if node is None:
                    _kill(replica)
                    return None
            except (ray.exceptions.RayError, TimeoutError, NightshiftError) as error:
                cause = error
                _kill(replica)
                self._report("replica_failed_to_start", replica=index, reason=_first_line(error))
                continue
            self._replicas[index] = replica
            self._report("replica_ready", replica=index, node=node)
            return replica
        why = f"teacher: replica {index} failed to start {START_ATTEMPTS} times; last: {_first_line(cause)}"
        self._give_up(index, why, cause)
        return None

    def _give_up(self, index: int, why: str, cause: Exception | None) -> None:
        """Leave a place empty for good; TooManyFailures when it was the last."""
        self._given_up.add(index)
        self._report("replica_given_up", replica=index, reason=why)
        if len(self._given_up) == self._settings.replicas:
            raise TooManyFailures(why) from cause
        log.warning("%s; the other places go on", why)

    def _bury(self, index: int, reason: str) -> None:
        _kill(self._replicas.pop(index))
        self.restarts += 1
        log.warning("replica %d was lost (%s) and is replaced", index, reason)
        self._report("replica_lost", replica=index, reason=reason)


async def _loaded(replica: Any, source: Source) -> str | None:
    """Wait for a replica to load and return its node; None when the others were done before it."""
    loading = asyncio.ensure_future(_answer(replica.load.remote()))
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT
    while not loading.done():
        await asyncio.wait({loading}, timeout=1)
        if source.done():
            loading.cancel()
            return None
        if asyncio.get_running_loop().time() > deadline:
            loading.cancel()
            raise TimeoutError(f"not loaded after {START_TIMEOUT:.0f} s")
    return str(loading.result())


async def _answer(reference: Any) -> Any:
    return await reference


def _kill(replica: Any) -> None:
    import ray

    ray.kill(replica, no_restart=True)


def _first_line(error: BaseException | None) -> str:
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[0] if lines else type(cause).__name__)[:300]
