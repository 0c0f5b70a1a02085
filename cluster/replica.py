"""One replica as the pool sees it: placed, loaded, told to leave, gone."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cluster.work import Fleet, Loaded

START_TIMEOUT = 1800.0
"""Seconds a replica may take to load; a 70B model from a slow disk takes a quarter of an hour."""
WAIT_SECONDS = 30.0
"""After so long it is told that a replica waits for room on the cluster."""
RESERVE_SECONDS = 5.0
RESERVE_SHARE = 0.2
"""A replica is off its node so long before that goes, or this share of the notice if that is shorter."""


@dataclass(slots=True, eq=False)
class Replica:
    """One copy of the teacher, from when its actor is asked for until it is ended."""

    name: str
    actor: Any
    node: str = ""
    nodes: frozenset[str] = frozenset()
    """All nodes that it cannot do without."""
    placed: float | None = None
    """When its actor was given room, on the monotonic clock."""
    loaded: Loaded | None = None
    leave_by: float | None = None
    """When it has to be off its node; None while it may stay."""
    _loading: asyncio.Timeout | None = None

    async def find_room(self, fleet: Fleet, report: Callable[..., None]) -> None:
        """Wait until the actor is placed, however long the cluster takes."""

        def tell() -> None:
            report("replica_waits", replica=self.name, asks=fleet.asks())

        waits = asyncio.get_running_loop().call_later(WAIT_SECONDS, tell)
        try:
            self.node = str(await self.actor.where.remote())
        finally:
            waits.cancel()
        self.placed = time.monotonic()
        self.nodes = frozenset({self.node})
        self.nodes |= frozenset(await asyncio.to_thread(fleet.nodes, self.actor))

    async def load(self) -> Loaded:
        """Load the teacher; TimeoutError when it takes too long or the node is told to leave meanwhile."""
        if self.leave_by is None:
            try:
                async with asyncio.timeout(START_TIMEOUT) as self._loading:
                    self.loaded = await self.actor.load.remote()
                    return self.loaded
            except TimeoutError as error:
                if self.leave_by is None:
                    raise TimeoutError(f"not loaded after {START_TIMEOUT:.0f} s") from error
            finally:
                self._loading = None
        raise TimeoutError("its node leaves before it is loaded")

    def leave_in(self, seconds: float) -> None:
        """Hear that its node goes in so many seconds; an earlier notice that leaves less time stays."""
        left = max(0.0, seconds)
        leave_by = time.monotonic() + left - min(RESERVE_SECONDS, RESERVE_SHARE * left)
        self.leave_by = leave_by if self.leave_by is None else min(self.leave_by, leave_by)
        if self._loading is not None:
            self._loading.reschedule(asyncio.get_running_loop().time())

    def seconds(self) -> float:
        """Return for how long it has had room on the cluster."""
        return 0.0 if self.placed is None else time.monotonic() - self.placed


def first_line(error: BaseException) -> str:
    """Return what an error says in one line; that of a remote call is told by its cause."""
    cause = getattr(error, "cause", None) or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return (lines[0] if lines else type(cause).__name__)[:300]
