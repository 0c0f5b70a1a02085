"""Draws items from a method's plan: enough to fill every label, in plan order, each once.

Rows are judged by a `Quota` along the plan; an item counts as soon as all items before it that could change
the verdict are settled. How many items to draw follows from the live acceptance rate; a label whose ceiling
of items is reached, or whose plan ends, is closed and named.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from math import ceil

from cluster.errors import RunError
from synth.demand import Deferred, Demand
from synth.method import Slot
from synth.quota import Candidate, Place, Quota
from synth.records import Item
from synth.settled import Known, Labels, Settled

MOST_DEFERRED = 250_000
"""So many slots of labels that seem to have enough are kept, some 300 bytes each, for a label that lags."""
PROBE = 1000
"""Of so many settled items one is built and compared with the ledger."""


class Planner:
    """Knows what to draw next and when the run has what it was asked for.

    What an event changes is worked out for the labels it touches alone: the cost of an item does not grow
    with the number of labels.
    """

    def __init__(
        self,
        plan: Iterator[Slot],
        targets: Mapping[str, int],
        settled: Settled,
        ceiling: float,
        round: int = 0,
        near: float | None = None,
        twins: Collection[Place] = (),
        spare: Mapping[str, int] = {},
        earlier: Quota | None = None,
    ) -> None:
        """near: as for `Quota`; twins: known rows that say the same as others; spare: rows to make beyond
        the targets of labels, since more such may be found; earlier: what judged the rows of earlier rounds,
        and goes on judging."""
        wanted = {label: n + spare.get(label, 0) for label, n in targets.items()}
        self.quota = earlier or Quota(wanted, near)
        self.quota.targets = wanted
        begun = dict(self.quota.kept)
        # What was found of the rows of a round alone says nothing of those of others.
        self._knows_all = earlier is None
        self._targets = targets
        self._twins = twins
        self.drawn = 0
        self.recognised = 0
        self._plan = plan
        self._settled = settled
        self._round = round
        self._walk = settled.walk(round)
        self._known = next(self._walk, None)
        self._demands = {
            label: Demand(wanted[label], ceil(max(0, n - begun[label]) * ceiling))
            for label, n in targets.items()
        }
        self._deferred = Deferred()
        self._ended = False
        self._aloft: dict[str, tuple[int, Labels]] = {}
        # Positions that are not judged yet, in plan order, and the rows of those that are settled.
        self._pending: deque[tuple[int, Labels]] = deque()
        self._landed: dict[int, Sequence[Candidate]] = {}
        # Labels that lack rows; that take no more items; that are not done. See `_refresh`.
        self._wanted: set[str] = set()
        self._over: set[str] = set()
        self._open: set[str] = set()
        self._refresh(targets)

    @property
    def in_flight(self) -> int:
        """Items drawn and not settled."""
        return len(self._aloft)

    def catch_up(self) -> None:
        """Take in what earlier sittings settled, from the start of the plan; gaps in it are drawn first."""
        while (slot := self._next_planned()) is not None:
            self._deferred.append(slot)
            if self._known is None:
                return

    def filled(self) -> dict[str, int]:
        """Return how many rows each label has, those included that wait for an item before them."""
        return {
            label: min(demand.target, self.quota.kept[label] + demand.waiting)
            for label, demand in self._demands.items()
        }

    def next_item(self) -> Item | None:
        """Return the next item to work, or None while nothing more is needed."""
        slot = self._deferred.take(self._wanted) or self._next_planned()
        if slot is None and not self._aloft and self._open:
            # Nothing is under way and yet a label lacks rows that lie behind an undrawn item: draw that one.
            slot = self._deferred.first()
        if slot is None:
            return None
        item = slot.build()
        self._aloft[item.id] = (slot.position, slot.labels)
        for label in slot.labels:
            demand = self._demands[label]
            demand.flying += 1
            demand.drawn += 1
        self.drawn += 1
        self._refresh(slot.labels)
        return item

    def settle(self, item_id: str, rows: Sequence[Candidate]) -> None:
        """Take in the accepted rows of an item that is settled; none when it was rejected or failed."""
        position, labels = self._aloft.pop(item_id)
        for label in labels:
            self._demands[label].flying -= 1
        self._take(position, labels, rows)

    def done(self) -> bool:
        """Say whether every label is full, or closed with nothing of it under way."""
        return not self._open

    def short(self) -> dict[str, str]:
        """Return the labels that are not full, each with the reason."""
        reasons = {}
        for label, demand in self._demands.items():
            if not self.quota.full(label):
                kept = self.quota.kept[label]
                why = "the plan has no more items" if self._ended else f"the ceiling is {demand.ceiling}"
                reasons[label] = f"{kept} of {self._targets[label]} rows from {demand.drawn} items; {why}"
        return reasons

    def _next_planned(self) -> Slot | None:
        while self._wanted and not self._ended:
            if len(self._deferred) >= MOST_DEFERRED and self._aloft:
                # Wait: what is under way will tell which of the slots passed over are of no use.
                return None
            slot = next(self._plan, None)
            if slot is None:
                self._ended = True
                self._advance()
                self._refresh(self._demands)
                return None
            known = self._recognise(slot) if self._known is not None else None
            if known is not None:
                self.recognised += 1
                self._pending.append((slot.position, slot.labels))
                for label in slot.labels:
                    self._demands[label].drawn += 1
                self._take(slot.position, slot.labels, self._marked(known))
            elif not self._wanted.isdisjoint(slot.labels):
                self._pending.append((slot.position, slot.labels))
                return slot
            elif not self.quota.filled(slot.labels):
                self._pending.append((slot.position, slot.labels))
                if not self._over.issuperset(slot.labels):
                    self._deferred.append(slot)
        return None

    def _recognise(self, slot: Slot) -> Known | None:
        """Return what the ledger has for a slot; some are built, to make sure that it is the same plan."""
        known = self._known
        if known is None or slot.position < known.position:
            return None
        if slot.position > known.position:
            raise self._strayed(known, "is not in the plan as it is now")
        # A row may have got another label than its item asked for; then only the id can tell.
        alike = known.labels == slot.labels or set(known.labels).issubset(slot.labels)
        if self.recognised % PROBE == 0 or not alike:
            planned = slot.build().id
            if planned != self._settled.id_of(self._round, known):
                raise self._strayed(
                    known, f"is {planned} of {'+'.join(slot.labels)} in the plan as it is now"
                )
        self._known = next(self._walk, None)
        return known

    def _marked(self, known: Known) -> Sequence[Candidate]:
        """Return the accepted rows of a settled item, the twins among them marked."""
        rows = known.rows if self._knows_all else [row._replace(alone=None) for row in known.rows]
        if not self._twins:
            return rows
        stands = ((self._round, known.position, number) for number in range(len(rows)))
        pairs = zip(rows, stands, strict=True)
        return [row._replace(twin=True) if place in self._twins else row for row, place in pairs]

    def _strayed(self, known: Known, how: str) -> RunError:
        return RunError(
            f"ledger: item {self._settled.id_of(self._round, known)} of {'+'.join(known.labels)} at position "
            f"{known.position} {how}: the run was planned differently, by another version or other settings; "
            "go back to them, or begin another run with --set run=NAME"
        )

    def _take(self, position: int, labels: Labels, rows: Sequence[Candidate]) -> None:
        """Count an item that is settled, and judge what can be judged now."""
        touched = set(labels)
        for label in labels:
            self._demands[label].settled += 1
        # What lies before the front belongs to closed labels and is not judged any more.
        judged = bool(self._pending) and position >= self._pending[0][0]
        for row in rows:
            for label in row.labels:
                self._demands[label].accepted += 1
                self._demands[label].waiting += judged
                touched.add(label)
        if judged:
            self._landed[position] = rows
        self._refresh(touched | self._advance())

    def _advance(self) -> set[str]:
        """Judge, in plan order, all rows that nothing unsettled can change any more; return their labels."""
        touched: set[str] = set()
        while self._pending:
            position, labels = self._pending[0]
            rows = self._landed.pop(position, None)
            if rows is None and not all(self._passed(label) for label in labels):
                break
            for row in rows or ():
                for label in row.labels:
                    self._demands[label].waiting -= 1
                self.quota.judge(row)
                touched.update(row.labels)
            self._pending.popleft()
        return touched

    def _passed(self, label: str) -> bool:
        """Say whether nothing unsettled can bring a label rows."""
        # Items of a closed label that still fly stand before its ceiling: wait for them.
        demand = self._demands[label]
        if self.quota.full(label):
            return True
        return demand.flying <= 0 and (demand.spent or (self._ended and not self._deferred.holds(label)))

    def _refresh(self, labels: Iterable[str]) -> None:
        """Work out again what is known of some labels, after whatever changed it."""
        for label in labels:
            demand, kept = self._demands[label], self.quota.kept[label]
            if not demand.lacks(kept):
                self._wanted.discard(label)
            elif label not in self._wanted:
                self._wanted.add(label)
                self._deferred.wake(label)
            if label not in self._over and (demand.spent or kept >= demand.target):
                self._over.add(label)
                self._deferred.discard(label, self._over)
            if self._passed(label):
                self._open.discard(label)
            else:
                self._open.add(label)
