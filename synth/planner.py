"""Draws items from a method's plan: enough to fill every label, in plan order, each once.

Rows are judged by a `Quota` along the plan; an item counts as soon as all items before it that could change
the verdict are settled. How many items to draw follows from the live acceptance rate; a label whose ceiling
of items is reached, or whose plan ends, is closed and named.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from synth.quota import Candidate, Quota
from synth.records import Item


@dataclass(slots=True)
class _Place:
    """What is known of one position of the plan that is not judged yet."""

    labels: tuple[str, ...]
    rows: Sequence[Candidate] | None = None


class Planner:
    """Knows what to draw next and when the run has what it was asked for."""

    def __init__(
        self,
        plan: Iterator[Item],
        targets: Mapping[str, int],
        settled: Mapping[str, Sequence[Candidate]],
        ceiling: float,
    ) -> None:
        self.quota = Quota(targets)
        self.drawn = 0
        self.recognised = 0
        self._plan = plan
        self._settled = settled
        self._ceilings = {label: ceil(target * ceiling) for label, target in targets.items()}
        self._places: dict[int, _Place] = {}
        self._front = 0
        self._deferred: dict[tuple[str, ...], deque[Item]] = {}
        self._ended = False
        self._items_drawn: Counter[str] = Counter()
        self._items_settled: Counter[str] = Counter()
        self._accepted: Counter[str] = Counter()
        self._waiting: Counter[str] = Counter()
        self._flying: Counter[str] = Counter()
        self._aloft: dict[str, Item] = {}

    @property
    def in_flight(self) -> int:
        """Items drawn and not settled."""
        return len(self._aloft)

    def catch_up(self) -> None:
        """Take in, from the start of the plan, what an earlier sitting settled."""
        item = self._next_planned()
        if item is not None:
            self._deferred.setdefault(item.labels, deque()).append(item)

    def next_item(self) -> Item | None:
        """Return the next item to work, or None while nothing more is needed."""
        item = self._next_deferred() or self._next_planned()
        if item is None and not self._aloft and not self.done():
            # Nothing is under way and yet a label lacks rows that lie behind an undrawn item: draw that one.
            item = self._first_deferred()
        if item is None:
            return None
        self._aloft[item.id] = item
        self._flying.update(item.labels)
        self._items_drawn.update(item.labels)
        self.drawn += 1
        return item

    def settle(self, item_id: str, rows: Sequence[Candidate]) -> None:
        """Take in the accepted rows of an item that is settled; none when it was rejected or failed."""
        item = self._aloft.pop(item_id)
        self._flying.subtract(item.labels)
        self._take(item, rows)
        self._advance()

    def done(self) -> bool:
        """Say whether every label is full, or closed with nothing of it under way."""
        return all(
            self.quota.full(label) or (self._closed(label) and self._flying[label] <= 0)
            for label in self.quota.targets
        )

    def short(self) -> dict[str, str]:
        """Return the labels that are not full, each with the reason."""
        reasons = {}
        for label, target in self.quota.targets.items():
            if not self.quota.full(label):
                kept, drawn = self.quota.kept[label], self._items_drawn[label]
                why = (
                    "the plan has no more items" if self._ended else f"the ceiling is {self._ceilings[label]}"
                )
                reasons[label] = f"{kept} of {target} rows from {drawn} items; {why}"
        return reasons

    def _next_deferred(self) -> Item | None:
        wanted = [queue for labels, queue in self._deferred.items() if queue and self._wanted(labels)]
        return min(wanted, key=lambda queue: queue[0].position).popleft() if wanted else None

    def _first_deferred(self) -> Item | None:
        queues = [queue for queue in self._deferred.values() if queue]
        return min(queues, key=lambda queue: queue[0].position).popleft() if queues else None

    def _next_planned(self) -> Item | None:
        while not self._ended and any(self._need(label) > 0 for label in self.quota.targets):
            item = next(self._plan, None)
            if item is None:
                self._ended = True
                self._advance()
                return None
            self._places[item.position] = _Place(item.labels)
            known = self._settled.get(item.id)
            if known is not None:
                self.recognised += 1
                self._items_drawn.update(item.labels)
                self._take(item, known)
                self._advance()
            elif self._wanted(item.labels):
                return item
            elif not self.quota.filled(item.labels):
                self._deferred.setdefault(item.labels, deque()).append(item)
        return None

    def _wanted(self, labels: Sequence[str]) -> bool:
        return any(self._need(label) > 0 for label in labels)

    def _need(self, label: str) -> float:
        """How many more accepted rows a label lacks, counting what is under way at the live rate."""
        if self._items_drawn[label] >= self._ceilings[label]:
            return 0.0
        rate = (self._accepted[label] + 1) / (self._items_settled[label] + 1)
        expected = self.quota.kept[label] + self._waiting[label] + self._flying[label] * rate
        return self.quota.targets[label] - expected

    def _closed(self, label: str) -> bool:
        if self._items_drawn[label] >= self._ceilings[label]:
            return True
        return self._ended and not any(label in labels and queue for labels, queue in self._deferred.items())

    def _take(self, item: Item, rows: Sequence[Candidate]) -> None:
        self._items_settled.update(item.labels)
        labels = [label for row in rows for label in row.labels]
        self._accepted.update(labels)
        place = self._places.get(item.position)
        if place is not None:
            place.rows = rows
            self._waiting.update(labels)

    def _advance(self) -> None:
        """Judge, in plan order, all rows that nothing unsettled can change any more."""
        while (place := self._places.get(self._front)) is not None:
            if place.rows is not None:
                for row in place.rows:
                    self._waiting.subtract(row.labels)
                    self.quota.judge(row)
            elif not all(self.quota.full(label) or self._closed_before(label) for label in place.labels):
                return
            del self._places[self._front]
            self._front += 1

    def _closed_before(self, label: str) -> bool:
        # Items of a closed label that still fly stand before its ceiling: wait for them.
        return self._closed(label) and self._flying[label] <= 0
