"""One replica at work for one source: it pulls small lots and pushes finished items back.

One exchange hands items over and returns, as soon as something is finished or a beat has passed, what is
finished: so it is pull, push and heartbeat in one.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from cluster.errors import ModelError
from cluster.replica import Replica
from cluster.work import Outcome, Source, Vitals, Work

LOT = 32
IDLE_SECONDS = 0.05
GRACE_SECONDS = 1.0
"""An exchange that began before a replica has to leave may end so long after."""


class Shift:
    """What a replica holds of a source's work, and how it gets more and is rid of it."""

    def __init__(self, replica: Replica, source: Source, in_flight: int | None, hang_timeout: float) -> None:
        self.replica = replica
        self.held: dict[str, Work] = {}
        self.settled = 0
        self._source = source
        self._in_flight = in_flight or (replica.loaded.in_flight if replica.loaded else LOT)
        self._hang_timeout = hang_timeout
        self._given: dict[str, int] = {}
        """How many items were settled when each was handed over."""
        self._vitals = Vitals()

    async def pull(self) -> None:
        """Keep the replica full until the source is done or its node is told to leave.

        RayError or TimeoutError when the replica is lost; `held` is then what it took along. ModelError when
        it says that no replica can do this work.
        """
        while not self._source.done() and self.replica.leave_by is None:
            free = self._in_flight - len(self.held)
            size = min(LOT, free)
            lot = self._source.next_lot(self.replica.name, size, self.held.keys()) if size > 0 else ()
            self.held.update((item.id, item) for item in lot)
            self._given.update((item.id, self.settled) for item in lot)
            if not self.held:
                await asyncio.sleep(IDLE_SECONDS)
                continue
            # More free places than one lot: come back at once for the next.
            hurry = len(lot) == LOT and len(self.held) < self._in_flight
            await self._exchange(lot, hurry, self._hang_timeout)

    async def finish(self) -> None:
        """Let a replica that has to leave finish what it holds, for as long as it may stay."""
        while self.held and not self._source.done() and self.replica.leave_by is not None:
            left = self.replica.leave_by - time.monotonic()
            if left <= 0:
                return
            await self._exchange((), False, min(self._hang_timeout, left + GRACE_SECONDS))

    async def drop(self) -> None:
        """Let the replica give up what it holds, and hand in its last account."""
        async with asyncio.timeout(self._hang_timeout):
            vitals: Vitals = await self.replica.actor.drop.remote()
        self._source.ended(self.replica.name, vitals)

    def abandon(self, reason: str, innocent: bool) -> None:
        """Give back to the source what a replica holds that is gone."""
        items, self.held = list(self.held.values()), {}
        self._source.lost(self.replica.name, items, reason, innocent)

    async def _exchange(self, lot: Sequence[Work], hurry: bool, patience: float) -> None:
        granted = self._source.grant(self.replica.name)
        async with asyncio.timeout(patience):
            outcome: Outcome = await self.replica.actor.exchange.remote(list(lot), hurry, granted)
        hung = self._hung(outcome)
        if hung:
            # The engine is at fault and not the items, which go with the replica as suspects.
            late = set(outcome.timed_out)
            said = next(message for item_id, message in outcome.errors if item_id in late)
            outcome = replace(outcome, errors=tuple(each for each in outcome.errors if each[0] not in late))
        for item_id in (*outcome.settled, *(item_id for item_id, _ in outcome.errors)):
            self.held.pop(item_id, None)
            self._given.pop(item_id, None)
        self.settled += len(outcome.settled)
        self._vitals = outcome.vitals
        self._source.settle(self.replica.name, outcome)
        if outcome.hopeless is not None:
            raise ModelError(outcome.hopeless)
        if hung:
            raise TimeoutError(f"{said}, nor to anything else: its engine gives no replies")

    def _hung(self, outcome: Outcome) -> bool:
        """Say whether items timed out and nothing at all came back while they waited."""
        waited = [self._given[item_id] for item_id in outcome.timed_out if item_id in self._given]
        # Calls that its purse holds back say nothing about its engine.
        starved = self._vitals.blocked and not self._vitals.running + self._vitals.waiting
        return not outcome.settled and self.settled in waited and not starved
