"""Work that has to be tried again, and how the item that kills replicas is told from those aboard with it.

When a replica dies, every item it held may be the cause. Each is tried once more, one suspect at a time to a
replica, among items that nothing is held against. One that is aboard a second death is tried alone, on a
replica that is emptied for it: only if that one dies too, and one more after it, is the item set aside. So a
poisonous item costs four replicas, and an innocent one is lost only if twice, in the very moments of its
trials, a replica dies of something else.
"""

from collections import Counter, deque
from collections.abc import Collection
from typing import Generic, TypeVar

from cluster.work import Work

ATTEMPTS = 3
"""How often an item may raise, or give no reply while others get theirs, until it is set aside."""
DEATHS = 2
"""After so many lost replicas an item is tried alone."""
TRIALS = 2
"""So many replicas an item must lose alone to be set aside: one may die of something else just then."""

W = TypeVar("W", bound=Work)


class Suspects(Generic[W]):
    """Queues of what is to be tried again."""

    def __init__(self) -> None:
        self._again: deque[W] = deque()
        self._suspects: deque[W] = deque()
        self._alone: deque[W] = deque()
        self._errors: Counter[str] = Counter()
        self._deaths: Counter[str] = Counter()
        self._cell: str | None = None
        """The replica that is emptied for an item to be tried alone, or tries one."""
        self._trial: str | None = None

    def __len__(self) -> int:
        return len(self._again) + len(self._suspects) + len(self._alone)

    def __bool__(self) -> bool:
        """Say whether anything is to be tried again, or is tried alone right now."""
        return self._cell is not None or len(self) > 0

    def closed(self, replica: str, held: Collection[str]) -> bool:
        """Say whether a replica is given nothing now: it is emptied for a trial, or in the midst of one."""
        if self._alone and self._cell is None:
            self._cell = replica
        return replica == self._cell and (bool(held) or self._trial is not None)

    def next(self, replica: str, held: Collection[str]) -> W | None:
        """Return what a replica that holds some items already should try again; None for nothing now."""
        if replica == self._cell:
            if self._alone and not held:
                work = self._alone.popleft()
                self._trial = work.id
                return work
            self._cell = None
        if self._again:
            return self._again.popleft()
        if self._suspects and not any(self._deaths.get(item_id) for item_id in held):
            return self._suspects.popleft()
        return None

    def settled(self, item_id: str) -> None:
        """Clear an item."""
        self._errors.pop(item_id, None)
        self._deaths.pop(item_id, None)
        if item_id == self._trial:
            self._trial = None
            # The replica is empty now: others that wait to be tried alone go first.
            self._cell = self._cell if self._alone else None

    def raised(self, work: W) -> bool:
        """Queue an item that raised or got no reply; True when it is to be set aside."""
        errors = self._errors[work.id] + 1
        self.settled(work.id)
        if errors < ATTEMPTS:
            self._errors[work.id] = errors
            self._again.append(work)
        return errors >= ATTEMPTS

    def died(self, work: W, innocent: bool) -> bool:
        """Queue an item whose replica is gone; True when it died alone too often and is to be set aside."""
        alone = work.id == self._trial
        if alone:
            self._free()
        # An innocent was not at fault this time; what was held against it before still is.
        deaths = self._deaths[work.id] + (not innocent)
        if deaths >= DEATHS + TRIALS:
            self.settled(work.id)
            return True
        self._deaths[work.id] = deaths
        (self._alone if deaths >= DEATHS else self._suspects if deaths else self._again).append(work)
        return False

    def left(self, replica: str) -> None:
        """Take note that a replica is gone."""
        if replica == self._cell:
            self._free()

    def _free(self) -> None:
        self._cell = self._trial = None
