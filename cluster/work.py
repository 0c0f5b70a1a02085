"""What a replica pool and its users say to each other: work, outcomes, and where both come from and go.

A replica is a Ray actor with `where() -> str`, its node, answered before anything is loaded,
`load() -> Loaded`, `exchange(items, hurry, granted) -> Outcome`, `drop() -> Vitals` and `stop()`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import pyarrow as pa


class Work(Protocol):
    """Anything with an id that a replica can work."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a replica tells once it is loaded."""

    node: str
    """Id of the node it runs on."""
    in_flight: int
    """Items it should have aboard so that its engine is never short of requests."""
    seats: int
    """Requests its engine works on together."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What its engine chose by itself, for events and the report."""


@dataclass(frozen=True, slots=True)
class Vitals:
    """How a replica fares at the end of an exchange."""

    running: int = 0
    """Requests its engine works on."""
    waiting: int = 0
    """Requests that wait in its engine."""
    blocked: int = 0
    """Calls its purse holds back."""
    used: tuple[float, ...] = ()
    """What it has spent since it was loaded, in each currency of the budget."""
    wanted: tuple[float, ...] = ()
    """What its blocked calls need beyond what it was granted, in each currency."""
    gpu: float | None = None
    """Share of time in which its GPUs are busy, 0 to 1; None where it has none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one exchange returned; rows hold whole items only."""

    rows: pa.RecordBatch | None = None
    settled: tuple[str, ...] = ()
    errors: tuple[tuple[str, str], ...] = ()
    """(item id, message) of items that raised or timed out."""
    timed_out: tuple[str, ...] = ()
    """Ids of those that timed out."""
    hopeless: str | None = None
    """Why no work can be done with the settings as they are; the run ends with this message."""
    vitals: Vitals = Vitals()

    def __reduce__(self) -> tuple[Any, ...]:
        # Arrow pickles a batch as dozens of buffers, which costs more to send than the rows to make.
        others = tuple(getattr(self, each.name) for each in fields(self)[1:])
        return _received, (None if self.rows is None else as_stream(self.rows), *others)


def as_stream(rows: pa.RecordBatch) -> bytes:
    """Return rows as one Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue())


def _received(rows: bytes | None, *others: Any) -> Outcome:
    if rows is None:
        return Outcome(None, *others)
    with pa.ipc.open_stream(rows) as stream:
        return Outcome(stream.read_next_batch(), *others)


class Source(Protocol):
    """Where a pool gets its work and brings the results.

    `replica` names one loaded copy; no name is used twice.
    """

    def next_lot(self, replica: str, size: int, held: Collection[str]) -> Sequence[Work]:
        """Return up to size items for a replica that already holds some."""

    def grant(self, replica: str) -> tuple[float, ...]:
        """Return what a replica may spend in all since it was loaded, in each currency."""

    def settle(self, replica: str, outcome: Outcome) -> None:
        """Take in what a replica finished."""

    def lost(self, replica: str, items: Sequence[Work], reason: str, innocent: bool) -> None:
        """Take back what a replica held that is gone.

        Innocent: its node went or was told to go, so that none of the items can be the cause.
        """

    def ended(self, replica: str, vitals: Vitals) -> None:
        """Take in the last account of a replica that was dropped in good order."""

    def done(self) -> bool:
        """Say whether no more work is to come and none is waited for."""


class Fleet(Protocol):
    """Where replicas run, and how they are started and ended there."""

    def places(self) -> int:
        """Return how many replicas there should be on the cluster as it is now."""

    def start(self) -> Any:
        """Start a replica and return its actor; it may wait for room on the cluster."""

    def end(self, replica: Any) -> None:
        """End a replica at once and free what it reserved."""

    def asks(self) -> str:
        """Say in words what one replica reserves."""

    def nodes(self, replica: Any) -> Collection[str]:
        """Return the nodes over which a replica that is placed reserves something, its actor's own aside."""

    def leaving(self) -> Mapping[str, float]:
        """Return the nodes that were told to go, each with the seconds it has left, infinite if not said."""

    def alive(self, node: str) -> bool:
        """Say whether a node is still a part of the cluster."""
