"""What to worry about before the dataset is trusted: leaks, contradictions, repetition, bias, scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.quality import answer
from jobs.report.scores import Score, first_trained_on
from jobs.report.wording import count, percent, points, quantity

MUCH_REPEATED = 0.2
"""Self-BLEU-5 above that of as many gold rows, from which it is a worry."""
FAR_LENGTH = 0.5
"""Kolmogorov-Smirnov distance of the lengths from which it is one."""
NEAR_SHARE = 0.01
"""Share of rows too near a gold test row from which it is one."""
UNSURE = 0.15
"""Calibration error from which it is one."""
_TERMS = 5


@dataclass(frozen=True, slots=True)
class Worry:
    """A sentence, where in the page there is more, and whether figures cannot be trusted for it."""

    text: str
    place: str
    grave: bool = False


def worries(metrics: Mapping[str, Any], scores: Sequence[Score]) -> list[Worry]:
    """Return what was found, the gravest first."""
    found = [
        *_leaks(metrics),
        *_labels(metrics),
        *_students(metrics, scores),
        *_rows(metrics),
        *_bias(metrics),
    ]
    return sorted(found, key=lambda worry: not worry.grave)


def _leaks(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    if equal := (answer(metrics, "copies").get("gold") or {}).get("rows"):
        yield Worry(
            f"{count(equal)} rows are gold test rows: scores on these are worth less.", "findings", True
        )
    near = answer(metrics, "nearest")
    share = (near.get("gold") or {}).get("share_alike") or 0.0
    if share >= NEAR_SHARE:
        yield Worry(
            f"{percent(share)} of the rows are almost a gold test row (cosine from {near['alike']}).",
            "findings",
            True,
        )


def _labels(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    copies = answer(metrics, "copies")
    if against := (copies.get("contradicting") or {}).get("rows"):
        yield Worry(f"{count(against)} rows have a text that stands under another label too.", "findings")
    for label in answer(metrics, "labels").get("without_rows") or []:
        yield Worry(f"No row has the label {label}.", "rows", True)
    if (oracle := (metrics.get("knowledge") or {}).get("oracle")) and isinstance(oracle, Mapping):
        kept = oracle.get("preserved")
        if isinstance(kept, float) and kept < 0.8:
            yield Worry(
                f"A judge trained on gold rows agrees with {percent(kept)} of the labels only.", "knowledge"
            )


def _students(metrics: Mapping[str, Any], scores: Sequence[Score]) -> Iterator[Worry]:
    student = first_trained_on(scores, "synthetic") or first_trained_on(scores, "mixed")
    if student is None or student.accuracy is None:
        return
    majority = ((metrics.get("baselines") or {}).get("majority") or {}).get("accuracy")
    if majority is not None and (student.low or 0.0) <= majority:
        yield Worry(
            "The student may be no better than always saying the most frequent label.", "students", True
        )
    for kind, name in (("seeds", "the seeds alone"), ("gold", "gold rows alone")):
        other = first_trained_on(scores, kind)
        if other is not None and other.accuracy is not None and student.accuracy < other.accuracy:
            apart = points(other.accuracy - student.accuracy)
            yield Worry(f"The same student trained on {name} is right {apart} often.", "students")
    if (student.calibration_error or 0.0) >= UNSURE:
        error = percent(student.calibration_error)
        yield Worry(
            f"Its probabilities are off by {error} on average: set no threshold by them.", "calibration"
        )
    for label in student.absent_labels:
        yield Worry(f"No gold test row has the label {label}: nothing is known of it.", "students")


def _rows(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    repeated = (answer(metrics, "copies").get("repeated") or {}).get("share") or 0.0
    if repeated >= NEAR_SHARE:
        yield Worry(f"{percent(repeated)} of the rows repeat an earlier one.", "findings")
    same = answer(metrics, "self_bleu").get("gold_same_n") or {}
    rows, gold = (same.get("rows") or {}).get("5"), (same.get("gold") or {}).get("5")
    if rows is not None and gold is not None and rows - gold >= MUCH_REPEATED:
        yield Worry(
            f"Rows say the same much more often than gold rows do: Self-BLEU-5 {quantity(rows)}, gold "
            f"{quantity(gold)}, {count(same['n'])} rows of each.",
            "quality",
        )
    lengths = answer(metrics, "profile").get("distance") or {}
    if (far := lengths.get("ks") or 0.0) >= FAR_LENGTH:
        yield Worry(f"Rows have other lengths than gold rows (distance {quantity(far)} of 1).", "lengths")


def _bias(metrics: Mapping[str, Any]) -> Iterator[Worry]:
    told = answer(metrics, "bound_terms")
    alone = [term for term in told.get("terms") or [] if told.get("gold_n") and not term["also_in_gold"]]
    if alone:
        named = ", ".join(f"“{term['term']}” ({term['label']})" for term in alone[:_TERMS])
        more = f" and {len(alone) - _TERMS} more" if len(alone) > _TERMS else ""
        yield Worry(
            f"Words give labels away that do not among gold rows: {named}{more}. A student may learn them in "
            "place of the task.",
            "bound",
        )
