"""The pool's waits, shortened for replicas that need no time."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster import lookout, places, pool, replica, shift


@contextmanager
def short_waits() -> Iterator[None]:
    """Make what takes seconds on a cluster take milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shift, "IDLE_SECONDS", 0)
        patch.setattr(places, "PAUSE_SECONDS", 0.001)
        patch.setattr(pool, "WATCH_SECONDS", 0.01)
        patch.setattr(lookout, "GONE_SECONDS", 0.02)
        patch.setattr(lookout, "GLANCE_SECONDS", 0.005)
        patch.setattr(replica, "WAIT_SECONDS", 0.05)
        yield
