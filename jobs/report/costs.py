"""What `metrics.json` says of costs, of limits, and of the fleet of teachers, as lines of tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.report.counts import read_labels
from jobs.report.wording import NONE, count, money, percent, plain, quantity

_LIMITS = {
    "tokens": ("Tokens", count),
    "money": ("Money", money),
    "gpu_hours": ("GPU-hours", quantity),
    "hours": ("Hours", quantity),
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What the run used of one thing, in words: in all, and for 1,000 rows of the dataset."""

    name: str
    amount: str
    per_thousand: str


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit of the run, in words: what it allows, what counts as spent, and what is left."""

    name: str
    limit: str
    spent: str
    left: str


def read_costs(metrics: Mapping[str, Any]) -> list[Cost]:
    """Return what the run cost; empty for a run whose costs were not counted."""
    costs = metrics.get("costs") or {}
    tokens, spent = costs.get("tokens") or {}, costs.get("money") or {}
    rows = (metrics.get("dataset") or {}).get("rows")
    amounts = (
        ("Prompt tokens", tokens.get("prompt"), count),
        ("Reply tokens", tokens.get("reply"), count),
        ("Prompt tokens of the judge", tokens.get("judge_prompt"), count),
        ("Reply tokens of the judge", tokens.get("judge_reply"), count),
        ("GPU-hours", costs.get("gpu_hours"), quantity),
        ("Hours of generation", costs.get("hours"), quantity),
        ("Money for tokens", spent.get("tokens"), money),
        ("Money for GPUs", spent.get("gpus"), money),
        ("Money", spent.get("total"), money),
    )
    return [
        Cost(name, worded(amount), worded(1000 * amount / rows) if rows else NONE)
        for name, amount, worded in amounts
        if amount is not None
    ]


def read_limits(metrics: Mapping[str, Any]) -> list[Limit]:
    """Return the limits that the run was given."""
    limits = (metrics.get("costs") or {}).get("limits") or {}
    lines = []
    for key, data in limits.items():
        name, worded = _LIMITS.get(key, (key.capitalize(), None))
        if worded is None:
            lines.append(Limit(name, plain(data.get("limit")), NONE, NONE))
        else:
            lines.append(Limit(name, *(worded(data.get(part)) for part in ("limit", "spent", "left"))))
    return lines


def read_stop(metrics: Mapping[str, Any]) -> str | None:
    """Return why a limit ended the run before all was done; None when none did."""
    said = (metrics.get("synthesis") or {}).get("stopped")
    return str(said).rstrip(".") if said else None


def read_fleet(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how many teachers worked how full, as pairs of a name and its wording."""
    fleet = (metrics.get("synthesis") or {}).get("fleet") or {}
    numbers = {
        "Replicas": fleet.get("replicas"),
        "Seats, all replicas": fleet.get("seats"),
        "Items in flight, all replicas": fleet.get("in_flight"),
    }
    lines = [(name, count(number)) for name, number in numbers.items() if number is not None]
    if fleet.get("occupancy") is not None:
        lines.append(("Running requests / seats while work waited", percent(fleet["occupancy"])))
    return lines + [(str(name), plain(value)) for name, value in (fleet.get("facts") or {}).items()]


def read_targets(metrics: Mapping[str, Any]) -> dict[str, int]:
    """Return the rows wanted of every label; older runs tell one number for all."""
    target = (metrics.get("dataset") or {}).get("target")
    if isinstance(target, Mapping):
        return {str(label): int(rows) for label, rows in target.items()}
    return dict.fromkeys(read_labels(metrics), int(target)) if target else {}


def target_note(metrics: Mapping[str, Any]) -> str:
    """Say how many rows were wanted: of a label where all are alike, in all where they differ."""
    target = (metrics.get("dataset") or {}).get("target")
    wanted = list(read_targets(metrics).values()) or ([target] if isinstance(target, int) else [0])
    if not any(wanted):
        return "in the dataset"
    same = len(set(wanted)) == 1
    return f"{count(wanted[0])} a label wanted" if same else f"{count(sum(wanted))} wanted"
