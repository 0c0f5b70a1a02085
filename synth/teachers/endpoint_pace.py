"""How many requests an endpoint is given at once: ever one more while it answers, half of them when it balks.

Additive increase and multiplicative decrease, as in TCP's congestion control, its slow start included.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from synth.item_clock import standing_still

START = 8
"""Requests at once to begin with."""
LONGEST_PAUSE = 3600.0
"""An endpoint that asks for a longer pause, in seconds, is asked again after this one."""


class Pace:
    """Slots for requests; their number is found out. It belongs to one event loop.

    Until the endpoint first balks, each success is worth a slot more; from then on, a window of successes (as
    many as there are slots). A window in which it balks, however often, halves the slots. Only successes in a
    full house count: others do not show that more would be answered.
    """

    def __init__(self, ceiling: int, start: int = START) -> None:
        self.limit = min(start, ceiling)
        """Requests that may be under way now."""
        self.running = 0
        """Requests under way."""
        self._ceiling = ceiling
        self._doubling = True
        self._earned = 0
        """Successes since the limit last changed."""
        self._old = 0
        """Requests that were under way when the limit was halved last, and still are."""
        self._opens = 0.0
        """When the endpoint may be asked again, on the loop's clock."""
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return len(self._waiting)

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot, given in order of arrival; the clock of an item that waits for one stands still."""
        if self._waiting or not self._free():
            with standing_still():
                await self._queue()
        else:
            self.running += 1
        try:
            yield
        finally:
            self._leave()

    async def pause(self) -> None:
        """Wait, with a slot, for the end of a pause that the endpoint asked for since the slot was given."""
        while (seconds := self._opens - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(seconds)

    def succeeded(self) -> None:
        """Hear from within a slot that its request was answered."""
        if self._old or self.limit >= self._ceiling or self.running < self.limit:
            return
        self._earned += 1
        if self._doubling or self._earned >= self.limit:
            self._earned = 0
            self.limit += 1
            self._wake()

    def throttled(self, retry_after: float | None = None) -> None:
        """Hear that the endpoint balked; nobody asks it again before `retry_after` seconds have passed."""
        if retry_after is not None:
            pause = min(max(retry_after, 0.0), LONGEST_PAUSE)
            self._opens = max(self._opens, asyncio.get_running_loop().time() + pause)
        if not self._old:
            self.limit = max(1, self.limit // 2)
            self._doubling, self._earned, self._old = False, 0, self.running

    def _free(self) -> bool:
        return self.running < self.limit and asyncio.get_running_loop().time() >= self._opens

    async def _queue(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn came in the very moment it was given up.
                self._leave()
            elif turn in self._waiting:
                self._waiting.remove(turn)
            raise

    def _leave(self) -> None:
        self.running -= 1
        self._old = max(0, self._old - 1)
        self._wake()

    def _wake(self) -> None:
        while self._waiting and self._free():
            turn = self._waiting.popleft()
            # One that is given up is cancelled a moment before it takes itself off the list.
            if not turn.cancelled():
                self.running += 1
                turn.set_result(None)
        if self._waiting and self.running < self.limit:
            self._sleep()

    def _sleep(self) -> None:
        """Wake those who wait when the pause is over."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._opens, self._wake)
