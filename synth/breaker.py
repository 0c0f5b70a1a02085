"""The circuit breaker: stops a run whose replies say that something is broken."""

from collections import deque

from cluster.errors import TooManyFailures

WINDOW = 200
"""Items looked back at."""
MAX_FAILED_SHARE = 0.2
MIN_FAILED = 20
BARREN = 1000
"""Items in a row that may settle without one accepted row."""


class Breaker:
    """Watches the last items of a run; an error rate that rises late is seen as soon as an early one."""

    def __init__(self) -> None:
        self._failed: deque[bool] = deque(maxlen=WINDOW)
        self._barren = 0

    def settled(self, accepted: bool, reason: str | None) -> None:
        """Take in an item that was worked; reason is that of its rejection.

        TooManyFailures when the last thousand items gave not one accepted row.
        """
        self._failed.append(False)
        self._barren = 0 if accepted else self._barren + 1
        if self._barren >= BARREN:
            raise TooManyFailures(
                f"the last {BARREN} items gave no accepted row; the last was rejected: {reason}. Look at the "
                "rejected replies in the ledger, then mend the prompt, the sampling or the teacher"
            )

    def failed(self, reason: str) -> None:
        """Take in an item set aside as failed; TooManyFailures when too many of the last ones were."""
        self._failed.append(True)
        failed = sum(self._failed)
        if failed >= MIN_FAILED and failed > MAX_FAILED_SHARE * len(self._failed):
            raise TooManyFailures(
                f"{failed} of the last {len(self._failed)} items failed; the last: {reason}. What was made "
                "is kept; mend the cause and give the next run another name with --set run=NAME, for failed "
                "items stay failed"
            )
