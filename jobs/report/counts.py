"""What `metrics.json` says of rows and items: the dataset, its labels, and the books."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MANY_TIMES = 10
"""Uses of a document from which they are counted together."""


@dataclass(frozen=True, slots=True)
class LabelRows:
    """Rows of one label: in the dataset, accepted beyond it, and rejected."""

    label: str
    kept: int
    surplus: int
    rejected: int

    @property
    def returned(self) -> int:
        """Rows the teacher returned for the label."""
        return self.kept + self.surplus + self.rejected


@dataclass(frozen=True, slots=True)
class Equation:
    """One line of the books: a total and the parts that must add up to it."""

    unit: str
    total: str
    count: int
    parts: tuple[tuple[str, int], ...]

    @property
    def balances(self) -> bool:
        """Say whether the parts add up to the total."""
        return self.count == sum(count for _, count in self.parts)


def read_label_rows(metrics: Mapping[str, Any]) -> list[LabelRows]:
    """Return the rows of every label, in the order of the task."""
    kept = (metrics.get("dataset") or {}).get("per_label") or {}
    counts = _rows(metrics).get("per_label") or {}
    labels = list(dict.fromkeys([*read_labels(metrics), *kept, *counts]))
    if not kept and not counts:
        return []
    return [_label_rows(label, int(kept.get(label, 0)), counts.get(label) or {}) for label in labels]


def read_labels(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return label names with their verbalizers, in the order of the task."""
    return dict((metrics.get("task") or {}).get("labels") or {})


def read_reasons(metrics: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Return the reasons for rejections with their counts, most frequent first."""
    return sorted((_rows(metrics).get("rejected") or {}).items(), key=lambda pair: (-pair[1], pair[0]))


def read_stages(metrics: Mapping[str, Any]) -> list[tuple[str, int, int, float]]:
    """Return each stage, what went in, what came out, and the share of it, where there are several."""
    stages = (metrics.get("synthesis") or {}).get("stages") or []
    found = [(str(each["stage"]), int(each["asked"]), int(each["got"])) for each in stages]
    return [(*each, each[2] / each[1]) for each in found if each[1]] if len(found) > 1 else []


def read_acceptance(metrics: Mapping[str, Any]) -> float | None:
    """Return the share of returned rows that were accepted; None when nothing was returned."""
    rows = _rows(metrics)
    return rows["accepted"] / rows["returned"] if rows.get("returned") else None


def read_books(metrics: Mapping[str, Any]) -> list[Equation]:
    """Return the equations of the books whose numbers are all there."""
    items = (metrics.get("synthesis") or {}).get("items") or {}
    rows, dataset = _rows(metrics), metrics.get("dataset") or {}
    books = []
    outcomes = ("settled", "failed", "unfinished")
    if {"drawn", *outcomes} <= items.keys():
        books.append(Equation("items", "drawn", items["drawn"], tuple((n, items[n]) for n in outcomes)))
    if {"returned", "accepted", "rejected"} <= rows.keys():
        refused = sum(rows["rejected"].values())
        parts = (("accepted", int(rows["accepted"])), ("rejected", refused))
        books.append(Equation("rows", "returned", rows["returned"], parts))
    if {"accepted", "surplus"} <= rows.keys() and "rows" in dataset:
        spare = tuple((f"surplus: {reason}", int(n)) for reason, n in rows["surplus"].items())
        kept = ("in the dataset", int(dataset["rows"]))
        books.append(Equation("rows", "accepted", rows["accepted"], (kept, *spare)))
    return books


def read_reuse(metrics: Mapping[str, Any]) -> list[tuple[str, int, float]]:
    """Return how many documents, and which share of them, served how many rows; 10 and more together."""
    documents = metrics.get("documents") or {}
    counts = {int(times): int(number) for times, number in (documents.get("histogram") or {}).items()}
    often = sum(number for times, number in counts.items() if times >= MANY_TIMES)
    lines = [(str(times), counts[times]) for times in sorted(counts) if times < MANY_TIMES]
    lines += [(f"{MANY_TIMES} or more", often)] if often else []
    total = sum(number for _, number in lines)
    return [(times, number, number / total) for times, number in lines]


def _rows(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return dict((metrics.get("synthesis") or {}).get("rows") or {})


def _label_rows(label: str, kept: int, counts: Mapping[str, int]) -> LabelRows:
    surplus = max(0, int(counts.get("accepted", kept)) - kept)
    return LabelRows(label, kept, surplus, int(counts.get("rejected", 0)))
