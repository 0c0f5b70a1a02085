"""What `metrics.json` says of a run in rounds, as lines of a table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.report.wording import count, percent

_LESSONS = {
    "errors": "errors in gold rows",
    "influence": "which rows help",
    "weights": "what rows weigh",
    "agreement": "which rows it agrees with",
    "cartography": "the data map",
}


@dataclass(frozen=True, slots=True)
class RoundLine:
    """A round in words: what a student taught before it, the rows that left, and what there was after it."""

    name: str
    learned: str
    left_out: str
    rows: str
    accuracy: str
    ended: str | None
    """Why the run ended with it."""


def read_rounds(metrics: Mapping[str, Any]) -> list[RoundLine]:
    """Return the rounds of a run; empty for a run of one.

    The accuracy after a round is that of the student that the next one learned from, and after the last
    round that of the first student of the run.
    """
    told = [dict(each) for each in metrics.get("rounds") or ()]
    first: Mapping[str, Any] = next(iter((metrics.get("students") or {}).values()), {})
    if told and told[-1].get("accuracy") is None:
        told[-1]["accuracy"] = first.get("accuracy")
    return [_line(each) for each in told]


def _line(told: Mapping[str, Any]) -> RoundLine:
    return RoundLine(
        name=str(told["round"] + 1),
        learned=", ".join(_LESSONS.get(lesson, lesson) for lesson in told["lessons"]),
        left_out=count(told.get("left_out")),
        rows=count(told.get("rows")),
        accuracy=percent(told.get("accuracy")),
        ended=told.get("ended"),
    )
