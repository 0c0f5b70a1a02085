"""So much a minute and no more: requests, or tokens, let through evenly with a small burst."""

import asyncio
import time
from collections.abc import Awaitable, Callable

BURST_SECONDS = 1.0
"""What would be let through in so long may come at once, after a quiet time."""
INSTANT = 1e-6
"""Seconds too short to wait for: a clock may not even show them."""
GLANCE_SECONDS = 0.5
"""Time between two looks of the one who is next: what others settle may let it through sooner."""


class RequestRate:
    """Lets an amount through in any minute, in the order in which it was asked for.

    With amounts of 1 (requests) no window of 60 s ever sees more than `per_minute`, rounded up. Larger
    amounts (tokens) may go beyond it by the last one let through. It belongs to one event loop.
    """

    def __init__(
        self,
        per_minute: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        # A burst comes on top of what a minute lets through evenly, so that is made less by as much.
        self._burst = max(0.0, per_minute / 60 * BURST_SECONDS - 1)
        self._seconds = 60 / (per_minute - self._burst)
        """Time that an amount of 1 takes."""
        self._clock, self._sleep = clock, sleep
        self._free_at = clock()
        """When all that was let through has had its time."""
        self._turn = asyncio.Lock()
        self.waiting = 0
        """Those that are not let through yet."""

    async def take(self, amount: float = 1.0) -> None:
        """Return when the amount may go; nothing is taken when the wait is cancelled."""
        self.waiting += 1
        try:
            async with self._turn:
                while (wait := self._wait()) > INSTANT:
                    await self._sleep(min(wait, GLANCE_SECONDS))
                self._free_at = max(self._free_at, self._clock()) + amount * self._seconds
        finally:
            self.waiting -= 1

    def settle(self, taken: float, used: float) -> None:
        """Correct an amount that was only estimated when it was taken."""
        self._free_at += (used - taken) * self._seconds

    def _wait(self) -> float:
        return self._free_at - self._clock() - self._burst * self._seconds
