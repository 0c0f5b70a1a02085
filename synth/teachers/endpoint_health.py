"""Whether a call that keeps failing is at fault, or its endpoint: the one ends an item, the other a run."""

import time
from collections.abc import Callable

CROWD = 4
"""When so many different calls fail and none succeeds, the endpoint is at fault and not what they ask."""


class Health:
    """Remembers when a reply came last; `outage` is for how many seconds none may come."""

    def __init__(self, outage: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.successes = 0
        self._outage = outage
        self._clock = clock
        self._last = clock()
        self._failing: set[int] = set()
        """Calls that failed since the last success."""

    @property
    def ever(self) -> bool:
        """Whether there ever was a reply."""
        return self.successes > 0

    def succeeded(self) -> None:
        """Hear of a reply."""
        self.successes += 1
        self._last = self._clock()
        self._failing.clear()

    def failed(self, call: int) -> None:
        """Hear of a call whose request failed."""
        self._failing.add(call)

    def ill(self, away: bool, calls: int) -> bool:
        """Say whether it is the endpoint that fails: it is away, or all of so many calls are in trouble."""
        crowd = CROWD if self.ever else min(CROWD, calls)
        return away or len(self._failing) >= crowd

    def lost(self, alive: bool) -> bool:
        """Say whether an endpoint that fails is to be given up: it did not work for too long, or never did.

        One that is alive, and says that it has too much to do, is waited for even if it never worked.
        """
        return not (self.ever or alive) or self._clock() - self._last > self._outage
