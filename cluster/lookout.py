"""Watches the cluster for a pool: how many replicas it holds, which nodes leave, and which are gone."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Collection

from cluster import replica as replicas_of
from cluster.errors import TooManyFailures
from cluster.replica import Replica
from cluster.work import Fleet

GONE_SECONDS = 3.0
"""The cluster may notice so much later than a replica's caller that a node is gone."""
GLANCE_SECONDS = 0.25

log = logging.getLogger(__name__)


class Lookout:
    """Asks the fleet now and then, in a thread: an answer may take long on a large or a troubled cluster."""

    def __init__(self, fleet: Fleet, report: Callable[..., None]) -> None:
        self._fleet = fleet
        self._report = report
        self._told: set[str] = set()
        self._room = time.monotonic()
        """When a replica last had room."""

    def begin(self) -> None:
        """Start a run."""
        self._room = time.monotonic()

    async def look(self, replicas: Collection[Replica]) -> int:
        """Pass on notices to the replicas that they concern and return how many places there are.

        TooManyFailures when no replica has had room for as long as one may take to start.
        """
        import ray

        places = 0
        try:
            for node, seconds in (await asyncio.to_thread(self._fleet.leaving)).items():
                self._tell(node, seconds, [each for each in replicas if node in each.nodes])
            places = await asyncio.to_thread(self._fleet.places)
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            log.warning("the cluster does not say how it is (%s); asked again soon", error)
        self._check_room(replicas)
        return places

    async def innocent(self, replica: Replica, error: BaseException) -> bool:
        """Say whether a replica was lost because a node of it went or was told to go."""
        import ray

        died = (ray.exceptions.RayActorError, ray.exceptions.ObjectLostError, ray.exceptions.NodeDiedError)
        until = time.monotonic() + (GONE_SECONDS if isinstance(error, died) and replica.nodes else 0)
        while replica.leave_by is None and not await asyncio.to_thread(self._gone, replica.nodes):
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(GLANCE_SECONDS)
        return True

    def _gone(self, nodes: Collection[str]) -> bool:
        import ray

        try:
            return not all(map(self._fleet.alive, nodes)) or not self._fleet.leaving().keys().isdisjoint(
                nodes
            )
        except (ray.exceptions.RayError, RuntimeError, OSError) as error:
            log.warning("the cluster does not say which nodes are alive: %s", error)
            return False

    def _tell(self, node: str, seconds: float, there: Collection[Replica]) -> None:
        if node not in self._told:
            self._told.add(node)
            names = [replica.name for replica in there]
            left = round(seconds, 1) if math.isfinite(seconds) else None
            self._report("node_leaving", node=node, seconds=left, replicas=names)
        for replica in there:
            replica.leave_in(seconds)

    def _check_room(self, replicas: Collection[Replica]) -> None:
        now, limit = time.monotonic(), replicas_of.START_TIMEOUT
        if any(replica.placed is not None for replica in replicas):
            self._room = now
        elif now - self._room > limit:
            raise TooManyFailures(
                f"teacher: no replica has found room on the cluster for {limit / 60:.0f} minutes; each needs "
                f"{self._fleet.asks()}; start nodes that have it, or lower teacher.num_cpus or num_gpus"
            )
