"""What stands at the head of the report: one sentence, a few numbers, and what is not there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.costs import target_note
from jobs.report.counts import read_acceptance, read_labels
from jobs.report.scores import Score, first_trained_on
from jobs.report.wording import count, duration, interval, model_name, percent, points, spread


@dataclass(frozen=True, slots=True)
class Tile:
    """One number of the head: what it is, the number, and what to hold beside it."""

    name: str
    number: str
    note: str
    main: bool = False


def summary(metrics: Mapping[str, Any], scores: Sequence[Score]) -> str:
    """Say in a sentence or two what the run made and what it is worth."""
    dataset, synthesis = metrics.get("dataset") or {}, metrics.get("synthesis") or {}
    if "rows" not in dataset:
        return "This run has written no dataset yet."
    made = f"{count(dataset['rows'])} rows in {len(read_labels(metrics)) or 'unnamed'} labels"
    if dataset.get("from"):
        made += f", taken from {model_name(str(dataset['from']))}"
    if synthesis.get("teacher"):
        made += f", written by {model_name(synthesis['teacher'])}"
    if synthesis.get("method"):
        made += f" with {synthesis['method']}"
    if synthesis.get("seconds") is not None:
        made += f" in {duration(synthesis['seconds'])}"
    return f"{made}. {_worth(scores)}".strip()


def _worth(scores: Sequence[Score]) -> str:
    mixed, seeds = first_trained_on(scores, "mixed"), first_trained_on(scores, "seeds")
    student = first_trained_on(scores, "synthetic") or mixed
    if student is None or student.accuracy is None:
        return "No student was scored."
    rows = f"them and the {student.mixed_in}" if student is mixed else "them"
    said = f"A student trained on {rows} labels {percent(student.accuracy)} of the gold test rows correctly"
    if student.runs is not None:
        said += f" ({_runs(student)})"
    if seeds is None or seeds.accuracy is None:
        return f"{said}."
    compared = f"{points(student.accuracy - seeds.accuracy)} than the same student trained on the seeds alone"
    return f"{said}, {compared}{_doubt(student, seeds)}."


def _runs(student: Score) -> str:
    runs = student.runs
    return spread(runs.mean, runs.std, len(runs.accuracies)) if runs is not None else ""


def _note(student: Score, otherwise: str) -> str:
    return _runs(student) or interval(student.low, student.high) or otherwise


def _doubt(one: Score, other: Score) -> str:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return ""
    apart = one.low > other.high or other.low > one.high
    return "" if apart else "; the two intervals overlap"


def tiles(metrics: Mapping[str, Any], scores: Sequence[Score]) -> list[Tile]:
    """Return the numbers of the head that were measured, the most important first."""
    return [*_score_tiles(metrics, scores), *_row_tiles(metrics)]


def _score_tiles(metrics: Mapping[str, Any], scores: Sequence[Score]) -> list[Tile]:
    found = []
    if (student := first_trained_on(scores, "synthetic")) and student.accuracy is not None:
        note = _note(student, "on gold test rows")
        found.append(Tile("Student accuracy", percent(student.accuracy), note, main=True))
    if (mixed := first_trained_on(scores, "mixed")) and mixed.accuracy is not None:
        note = _note(mixed, "on gold test rows")
        name = f"{mixed.mixed_in.capitalize()} mixed in"
        found.append(Tile(name, percent(mixed.accuracy), note, main=not found))
    if (seeds := first_trained_on(scores, "seeds")) and seeds.accuracy is not None:
        found.append(Tile("Seeds alone", percent(seeds.accuracy), _note(seeds, f"{count(seeds.rows)} seeds")))
    if (gold := first_trained_on(scores, "gold")) and gold.accuracy is not None:
        note = _note(gold, f"{count(gold.rows)} gold rows")
        found.append(Tile("Gold rows alone", percent(gold.accuracy), note))
    if majority := (metrics.get("baselines") or {}).get("majority"):
        note = f"always “{majority['label']}”" if majority.get("label") else "one label for all"
        found.append(Tile("Majority class", percent(majority.get("accuracy")), note))
    return found


def _row_tiles(metrics: Mapping[str, Any]) -> list[Tile]:
    found = []
    dataset, rows = metrics.get("dataset") or {}, (metrics.get("synthesis") or {}).get("rows") or {}
    if "rows" in dataset:
        found.append(Tile("Rows", count(dataset["rows"]), target_note(metrics)))
    if (accepted := read_acceptance(metrics)) is not None:
        note = f"{count(rows['accepted'])} of {count(rows['returned'])} replies"
        found.append(Tile("Accepted", percent(accepted), note))
    if grounding := metrics.get("grounding"):
        note = f"{percent(grounding.get('random'))} in a random one"
        found.append(Tile("Grounded in its document", percent(grounding.get("own")), note))
    return found


def missing_parts(
    record: Mapping[str, Any], metrics: Mapping[str, Any], scores: Sequence[Score]
) -> list[str]:
    """Name what a finished run would have and this one has not."""
    asked = (record.get("resolved") or {}).get("metrics")
    outside = bool((metrics.get("dataset") or {}).get("from"))
    seen = {
        "the record of its settings (run.json)": bool(record),
        "the task": bool(metrics.get("task")),
        "a dataset": bool(metrics.get("dataset")),
        "counts of the synthesis": outside or bool(metrics.get("synthesis")),
        "a student trained on the dataset": any(score.on_dataset for score in scores),
        "a student trained on the seeds alone": first_trained_on(scores, "seeds") is not None,
        "the majority baseline": bool((metrics.get("baselines") or {}).get("majority")),
        # Rows of a method that retrieves nothing are grounded in nothing.
        "metrics of the dataset": bool(metrics.get("quality")) or not asked,
        "a measure of grounding": bool(metrics.get("grounding")) or not metrics.get("documents"),
    }
    return [part for part, there in seen.items() if not there]
