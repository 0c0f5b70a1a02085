"""How often and how long a call is sent again, and when it is given up: it alone, or the whole endpoint."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from synth.teacher import TeacherRefuses
from synth.teachers.endpoint_faults import Fault, Kind
from synth.teachers.endpoint_health import Health

BACKOFF_SECONDS = 1.0
"""Wait after a first failure; it doubles with each further one."""
LONGEST_BACKOFF = 30.0


class NoReply(Exception):
    """One call got no reply; others do."""


@dataclass(slots=True)
class Tries:
    """What became of one call so far."""

    number: int
    failed: int = 0
    """Failed requests that count."""
    seconds: float = 0.0
    """Time that its requests took."""
    seen: int = 0
    """Successes of all calls when it was throttled last."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a call may take."""

    attempts: int
    item_seconds: float
    request_seconds: float
    outage: float
    """Seconds for which an endpoint that has worked may be away."""


class Patience:
    """Judges faults. Once an endpoint is given up, every call of its engine is."""

    def __init__(self, bounds: Bounds, farewell: Callable[[Fault, bool], str]) -> None:
        self.health = Health(bounds.outage)
        self._bounds = bounds
        self._farewell = farewell
        """What to say of an endpoint that is given up: from the last fault, and whether it ever worked."""
        self._hopeless: str | None = None

    def hope(self) -> None:
        """TeacherRefuses when the endpoint was given up."""
        if self._hopeless is not None:
            raise TeacherRefuses(self._hopeless)

    def take(self, fault: Fault, tries: Tries, calls: int) -> float:
        """Return the seconds after which to ask again; `calls` is how many there are now.

        NoReply when this call is to be given up, TeacherRefuses when all are.
        """
        if fault.kind is Kind.ITEM:
            raise NoReply(f"this prompt is refused: {fault.said}") from None
        if fault.kind is Kind.ALL:
            raise self._end(fault.said) from None
        if fault.kind is Kind.THROTTLED and self.health.successes > tries.seen:
            # It answers others: this one's turn will come, however often it is sent away.
            tries.seen = self.health.successes
        else:
            tries.failed += 1
            self.health.failed(tries.number)
            self._bear(fault, tries, calls)
        if fault.retry_after is not None:
            # The pace lets nobody through before.
            return 0.0
        wait = min(LONGEST_BACKOFF, BACKOFF_SECONDS * 2.0 ** max(0, tries.failed - 1))
        return wait * random.uniform(0.5, 1.0)

    def _bear(self, fault: Fault, tries: Tries, calls: int) -> None:
        """Return when the call is to go on. Errors: NoReply, TeacherRefuses."""
        bounds = self._bounds
        no_time = tries.seconds + bounds.request_seconds >= bounds.item_seconds
        if tries.failed < bounds.attempts and not no_time:
            return
        if not self.health.ill(fault.kind in (Kind.AWAY, Kind.THROTTLED), calls):
            tried = f"{tries.failed} attempts" if tries.failed > 1 else "1 attempt"
            raise NoReply(f"no reply after {tried}; the last: {fault.said}") from None
        if self.health.lost(fault.kind is Kind.THROTTLED) or no_time:
            raise self._end(self._farewell(fault, self.health.ever)) from None

    def _end(self, said: str) -> TeacherRefuses:
        self._hopeless = said
        return TeacherRefuses(said)
