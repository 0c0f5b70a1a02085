"""What each label still needs, and the slots of the plan that were passed over until it does."""

from collections import defaultdict, deque
from dataclasses import dataclass
from heapq import heappop, heappush

from synth.method import Slot

Labels = tuple[str, ...]


@dataclass(slots=True)
class Demand:
    """What a label is to have, and what became of its items."""

    target: int
    ceiling: int
    """Items of it that may be drawn."""
    drawn: int = 0
    flying: int = 0
    settled: int = 0
    accepted: int = 0
    waiting: int = 0
    """Accepted rows that are not judged yet."""

    @property
    def spent(self) -> bool:
        """Say whether its ceiling of items is reached."""
        return self.drawn >= self.ceiling

    def lacks(self, kept: int) -> bool:
        """Say whether rows are lacking beyond what is under way, counted at the live rate of acceptance."""
        if self.drawn >= self.ceiling:
            return False
        rate = (self.accepted + 1) / (self.settled + 1)
        return kept + self.waiting + self.flying * rate < self.target


class Deferred:
    """Slots passed over, found again in plan order once one of their labels is wanted."""

    def __init__(self) -> None:
        self._queues: dict[Labels, deque[Slot]] = {}
        self._of: dict[str, list[Labels]] = {}
        self._held: defaultdict[str, int] = defaultdict(int)
        self._count = 0
        # (position of the first slot, labels) of every queue that may be wanted; checked when looked at.
        self._heads: list[tuple[int, Labels]] = []
        self._on_heap: set[Labels] = set()

    def __len__(self) -> int:
        return self._count

    def append(self, slot: Slot) -> None:
        """Set aside a slot that stands behind all others of its labels."""
        queue = self._queues.get(slot.labels)
        if queue is None:
            queue = self._queues[slot.labels] = deque()
            for label in slot.labels:
                self._of.setdefault(label, []).append(slot.labels)
        queue.append(slot)
        self._count += 1
        for label in slot.labels:
            self._held[label] += 1
        if slot.labels not in self._on_heap:
            self._push(slot.labels)

    def wake(self, label: str) -> None:
        """Take note that a label is wanted again."""
        for labels in self._of.get(label, ()):
            self._push(labels)

    def take(self, wanted: set[str]) -> Slot | None:
        """Return, and forget, the first slot in plan order that has a wanted label."""
        while self._heads:
            position, labels = heappop(self._heads)
            self._on_heap.remove(labels)
            queue = self._queues[labels]
            if not queue or wanted.isdisjoint(labels):
                continue
            if queue[0].position == position:
                return self._pop(labels)
            self._push(labels)
        return None

    def first(self) -> Slot | None:
        """Return, and forget, the first slot in plan order."""
        held = [(queue[0].position, labels) for labels, queue in self._queues.items() if queue]
        return self._pop(min(held)[1]) if held else None

    def holds(self, label: str) -> bool:
        """Say whether a slot of a label is set aside."""
        return self._held[label] > 0

    def discard(self, label: str, over: set[str]) -> None:
        """Forget the slots of a label that have no label which is not over."""
        for labels in self._of.get(label, ()):
            queue = self._queues[labels]
            if queue and over.issuperset(labels):
                self._count -= len(queue)
                for each in labels:
                    self._held[each] -= len(queue)
                queue.clear()

    def _pop(self, labels: Labels) -> Slot:
        slot = self._queues[labels].popleft()
        self._count -= 1
        for label in labels:
            self._held[label] -= 1
        self._push(labels)
        return slot

    def _push(self, labels: Labels) -> None:
        if self._queues[labels] and labels not in self._on_heap:
            self._on_heap.add(labels)
            heappush(self._heads, (self._queues[labels][0].position, labels))
