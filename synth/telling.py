"""How far a run is, as data: what a tick tells the terminal, `events.jsonl`, and who asks from outside."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

REJECTED = "rejected:"
"""What the counts of rejections by reason begin with."""
KIND = "synthesis"
"""Name of the event."""


@dataclass(frozen=True, slots=True)
class Speed:
    """What comes in a second."""

    rows: float = 0.0
    """Accepted rows."""
    prompt_tokens: float = 0.0
    reply_tokens: float = 0.0


@dataclass(frozen=True, slots=True)
class Telling:
    """How far the dataset is, over all sittings, and how this sitting fares."""

    kept: Mapping[str, int]
    """Rows that count for each label."""
    targets: Mapping[str, int] = field(default_factory=dict)
    """Rows wanted of each label."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Rows returned, by status; rejections also as `rejected:<reason>`."""
    surplus: Mapping[str, int] = field(default_factory=dict)
    """Accepted rows that are not in the dataset, by reason; known once it is curated."""
    prompt_tokens: int = 0
    reply_tokens: int = 0
    now: Speed | None = None
    """Speed over the last minute."""
    average: Speed = Speed()
    """Speed since the first replica was loaded."""
    replicas: int = 0
    """Replicas that are loaded."""
    restarts: int = 0
    running: int = 0
    """Requests the engines work on."""
    waiting: int = 0
    seats: int = 0
    """Requests they could work on."""
    occupancy: float | None = None
    """Requests running over seats while work waited, over the sitting."""
    gpu: float | None = None
    """Share of time in which the GPUs are busy, 0 to 1."""
    eta_seconds: float | None = None
    costs: Mapping[str, Any] = field(default_factory=dict)
    """As in `metrics.json`."""

    @property
    def wanted(self) -> int:
        """Rows wanted in all."""
        return sum(self.targets.values())

    @property
    def filled(self) -> int:
        """Rows that count in all."""
        return sum(self.kept.values())

    def reasons(self) -> list[tuple[str, int]]:
        """Return the reasons for rejections, most frequent first."""
        found = [(name[len(REJECTED) :], n) for name, n in self.rows.items() if name.startswith(REJECTED)]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def as_event(self) -> dict[str, Any]:
        """Return it as JSON has it, without what is not known."""
        told = {name: value for name, value in asdict(self).items() if value is not None}
        if not self.surplus:
            del told["surplus"]
        return _rounded(told)

    def line(self) -> str:
        """Say it in one line, with the label that lags most."""
        speed = self.now or self.average
        labels = {label: target for label, target in self.targets.items() if target} or self.kept
        last = min(labels, key=self.share, default="")
        parts = [
            f"Rows {self.filled}/{self.wanted}",
            f"{speed.rows:.2f} rows/s",
            f"{speed.reply_tokens:.0f} tok/s",
            f"rejected {self.rows.get('rejected', 0)} failed {self.rows.get('failed', 0)}",
            f"replicas {self.replicas}" + (f" running {self.running}/{self.seats}" if self.seats else ""),
            *([f"GPU {self.gpu:.0%}"] if self.gpu is not None else []),
            *(f"{name} {_spent(each)}" for name, each in limited(self.costs).items()),
            f"ETA {clock(self.eta_seconds)}",
            f"{last} {self.kept.get(last, 0)}/{self.targets.get(last, 0)}",
        ]
        return " | ".join(parts)

    def share(self, label: str) -> float:
        """Return how full a label is, 0 to 1; one of which nothing is wanted is full."""
        target = self.targets.get(label, 0)
        return min(1.0, self.kept.get(label, 0) / target) if target else 1.0


def read_telling(event: Mapping[str, Any]) -> Telling:
    """Read what `as_event` wrote; what an older version did not write is left at nothing."""
    known = {name: event[name] for name in Telling.__slots__ if event.get(name) is not None}
    for name in ("now", "average"):
        if name in known:
            known[name] = Speed(**known[name])
    return Telling(**{"kept": {}} | known)


def limited(costs: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the limits that are amounts, each with what is spent of it."""
    return {name: each for name, each in (costs.get("limits") or {}).items() if "spent" in each}


def clock(seconds: float | None) -> str:
    """Write seconds as hours, minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def _spent(limit: Mapping[str, Any]) -> str:
    return f"{limit['spent'] / limit['limit']:.0%}" if limit["limit"] else "-"


def _rounded(value: Any) -> Any:
    """Return a value with its fractions cut to six digits that matter: the file grows all night."""
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
