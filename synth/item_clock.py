"""The time that one item may take, which stands still while all it does is wait for money, or for its turn
at an endpoint that takes no more calls just now."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType


class ItemClock:
    """An `asyncio.timeout` that runs unless calls of the item are blocked and none is under way."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._blocked = self._working = self._aside = 0
        self._left: float | None = None
        """Seconds left, while the clock stands still."""
        self._over = False

    @property
    def expired(self) -> bool:
        """Whether the item took longer than it may."""
        return self._timeout.expired()

    async def __aenter__(self) -> "ItemClock":
        await self._timeout.__aenter__()
        _CLOCK.set(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A call that a method left behind may end after its item.
        self._over = True
        await self._timeout.__aexit__(kind, error, trace)

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """Mark a call that waits for a grant."""
        self._blocked += 1
        self._turn()
        try:
            yield
        finally:
            self._blocked -= 1
            self._turn()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Mark a call that the engine works on."""
        self._working += 1
        self._turn()
        try:
            yield
        finally:
            self._working -= 1
            self._turn()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Mark a call that its engine cannot work on yet, though it is handed over."""
        self._aside += 1
        self._turn()
        try:
            yield
        finally:
            self._aside -= 1
            self._turn()

    def _turn(self) -> None:
        """Stop the clock or let it go on."""
        # Calls that nobody pays for are not marked as worked on: for them one that waits stops the clock.
        still = self._blocked + self._aside > 0 and self._working <= self._aside
        if self._over or self._timeout.expired() or still == (self._left is not None):
            return
        now, end = asyncio.get_running_loop().time(), self._timeout.when()
        if still:
            self._left = (end or now) - now
            self._timeout.reschedule(None)
        else:
            self._timeout.reschedule(now + (self._left or 0.0))
            self._left = None


_CLOCK: ContextVar[ItemClock | None] = ContextVar("item_clock", default=None)
"""The clock of the item that the current task works."""


@contextmanager
def standing_still() -> Iterator[None]:
    """Stop, from inside an engine, the clock of the item whose call is not worked on yet, if there is one."""
    clock = _CLOCK.get()
    if clock is None:
        yield
    else:
        with clock.aside():
            yield
