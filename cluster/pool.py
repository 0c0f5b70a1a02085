"""The replica pool: it keeps a replica at every place that the cluster has; any may die at any time."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.errors import NightshiftError, TooManyFailures
from cluster.lookout import Lookout
from cluster.places import Crew, Place
from cluster.replica import Replica, first_line
from cluster.shift import Shift
from cluster.work import Fleet, Loaded, Source

WATCH_SECONDS = 2.0
STOP_SECONDS = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool treats its replicas."""

    in_flight: int | None
    """Items a replica holds at once; None: what it asks for once it is loaded."""
    hang_timeout: float
    """Seconds without a sign of life after which a replica is replaced."""


class Pool:
    """Keeps the replicas of a run; `run` works one source to its end and may be called again."""

    def __init__(self, fleet: Fleet, settings: PoolSettings, report: Callable[..., None]) -> None:
        self.restarts = 0
        """Replicas lost, or withdrawn from a node that was to go."""
        self._fleet = fleet
        self._settings = settings
        self._report = report
        self._lookout = Lookout(fleet, report)
        self._crew = Crew(fleet)
        self._places: list[Place] = []
        self._waiting: set[asyncio.Task[Any]] = set()
        """What need not go on when the source is done."""

    @property
    def loaded(self) -> Mapping[str, Loaded]:
        """What the living replicas told when they were loaded, by name."""
        return self._crew.loaded

    @property
    def alive(self) -> int:
        """Replicas that are loaded."""
        return len(self.loaded)

    @property
    def replica_seconds(self) -> float:
        """Seconds for which replicas have had room on the cluster, all added up."""
        return self._crew.seconds

    async def run(self, source: Source) -> None:
        """Work a source until it is done; TooManyFailures when no replica can be kept alive."""
        self._lookout.begin()
        try:
            async with asyncio.TaskGroup() as group:
                for place in self._places:
                    group.create_task(self._serve(group, place, source))
                self._waiting.add(group.create_task(self._watch(group, source)))
        except BaseExceptionGroup as failures:
            # One cause ends a run; the group's wrapping would hide its class from the command line.
            raise failures.exceptions[0] from failures
        finally:
            self._waiting.clear()

    async def close(self) -> None:
        """Let all replicas free their engines, then end them."""
        replicas = list(self._crew.replicas)
        for place in self._places:
            place.replica = None
        # A replica that does not answer is ended all the same.
        await asyncio.gather(*map(_stop, replicas), return_exceptions=True)
        for replica in replicas:
            self._crew.end(replica)

    async def _watch(self, group: asyncio.TaskGroup, source: Source) -> None:
        while not source.done():
            places = await self._lookout.look(self._crew.replicas)
            for _ in range(len(self._places), places):
                self._places.append(Place())
                group.create_task(self._serve(group, self._places[-1], source))
            await asyncio.sleep(WATCH_SECONDS)
        self._end_waiting()

    async def _serve(self, group: asyncio.TaskGroup, place: Place, source: Source) -> None:
        from ray.exceptions import RayError

        while not place.given_up and not source.done():
            replica = await self._ready(place)
            if replica is None:
                continue
            shift = Shift(replica, source, self._settings.in_flight, self._settings.hang_timeout)
            try:
                await shift.pull()
                if replica.leave_by is None:
                    await shift.drop()
                else:
                    # The next replica of this place starts now, while this one finishes what it holds.
                    place.replica = None
                    group.create_task(self._retire(shift))
            except (RayError, TimeoutError) as error:
                await self._lost(place, shift, error)
        if source.done():
            self._end_waiting()

    async def _ready(self, place: Place) -> Replica | None:
        """Return the loaded replica of a place, starting one if there is none; None when that failed."""
        from ray.exceptions import RayError

        if place.replica is not None:
            return place.replica
        task = asyncio.current_task()
        assert task is not None
        self._waiting.add(task)
        try:
            await asyncio.sleep(place.pause())
            replica = self._crew.start()
            try:
                await replica.find_room(self._fleet, self._report)
                loaded = await replica.load()
            except (RayError, TimeoutError, NightshiftError) as error:
                await self._failed_to_start(place, replica, error)
                return None
            finally:
                if replica.loaded is None:
                    self._crew.end(replica)
        finally:
            self._waiting.discard(task)
        place.replica, place.failures = replica, 0
        shown = {"in_flight": loaded.in_flight, "seats": loaded.seats, "facts": dict(loaded.facts)}
        self._report("replica_ready", replica=replica.name, node=replica.node, **shown)
        return replica

    async def _failed_to_start(self, place: Place, replica: Replica, error: BaseException) -> None:
        reason = _reason(error)
        innocent = await self._lookout.innocent(replica, error)
        self._report("replica_failed_to_start", replica=replica.name, reason=reason, innocent=innocent)
        log.warning("%s failed to start: %s", replica.name, reason)
        self._check(place.failed_to_start(innocent), reason, error)

    async def _lost(self, place: Place, shift: Shift, error: BaseException) -> None:
        replica, reason = shift.replica, _reason(error)
        innocent = await self._lookout.innocent(replica, error)
        place.replica = None
        self._crew.end(replica)
        self.restarts += 1
        told = {"replica": replica.name, "node": replica.node, "reason": reason, "innocent": innocent}
        self._report("replica_lost", **told)
        log.warning("%s was lost (%s) and is replaced", replica.name, reason)
        shift.abandon(reason, innocent)
        self._check(place.lost(shift.settled, innocent), reason, error)

    async def _retire(self, shift: Shift) -> None:
        """Let a replica finish what it can before its node goes; what is left is done again elsewhere."""
        from ray.exceptions import RayError

        replica, reason = shift.replica, "its node leaves"
        self._report("replica_retires", replica=replica.name, node=replica.node, items=len(shift.held))
        self.restarts += 1
        try:
            await shift.finish()
            await shift.drop()
            in_order = True
        except (RayError, TimeoutError) as error:
            in_order, reason = False, _reason(error)
        finally:
            self._crew.end(replica)
        if shift.held or not in_order:
            shift.abandon(reason, innocent=True)

    def _check(self, given_up: str | None, reason: str, cause: BaseException) -> None:
        """Tell that a place is given up, if it is; TooManyFailures when it was the last."""
        if given_up is None:
            return
        why = f"a replica {given_up}; last: {reason}"
        self._report("replica_given_up", reason=why)
        if all(each.given_up for each in self._places):
            raise TooManyFailures(f"teacher: {why}") from cause
        log.warning("%s; the other places go on", why)

    def _end_waiting(self) -> None:
        """Let go what still waits or loads: the source is done."""
        for task in self._waiting - {asyncio.current_task()}:
            task.cancel()


async def _stop(replica: Replica) -> None:
    async with asyncio.timeout(STOP_SECONDS):
        await replica.actor.stop.remote()


def _reason(error: BaseException) -> str:
    return (str(error) or "no sign of life") if isinstance(error, TimeoutError) else first_line(error)
