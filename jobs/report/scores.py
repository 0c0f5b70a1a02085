"""What `metrics.json` says of students and baselines, as records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jobs.report.wording import percent


@dataclass(frozen=True, slots=True)
class LabelScore:
    """Scores of one label, 0 to 1; support counts its gold test rows."""

    label: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int | None


@dataclass(frozen=True, slots=True)
class Runs:
    """Accuracies of the runs of a student, the kept one first; of_first are those that were given up."""

    accuracies: tuple[float, ...]
    mean: float
    std: float
    of_first: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one student on the gold test rows; low and high bound its accuracy at 95 %."""

    name: str
    trained_on: str
    rows: int | None
    base: str | None
    accuracy: float | None
    low: float | None
    high: float | None
    macro_f1: float | None
    seconds: float | None
    per_label: tuple[LabelScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    sources: tuple[str, ...] = ()
    micro_f1: float | None = None
    several_labels: bool = False
    """Rows may have several labels: a row counts as right when all of them are."""
    absent_labels: tuple[str, ...] = ()
    """Labels without a gold test row: they are in no score."""
    calibration_error: float | None = None
    reliability: tuple[tuple[float, float, int], ...] = ()
    """Of each bin of confidence that is not empty: mean confidence, accuracy, rows."""
    runs: Runs | None = None
    validation: str | None = None
    """What a split of the training rows said while the student was trained."""

    @property
    def on_dataset(self) -> bool:
        """Whether the student learned from the dataset, alone or with gold rows mixed in."""
        return self.trained_on in ("synthetic", "mixed")

    @property
    def mixed_in(self) -> str:
        """What was mixed in with the dataset."""
        return "gold rows" if "gold" in self.sources else "seeds"

    @property
    def confused(self) -> list[tuple[int, int, int]]:
        """Pairs of labels taken for another, most frequent first: (gold place, predicted place, rows)."""
        pairs = [
            (gold, predicted, count)
            for gold, line in enumerate(self.confusion)
            for predicted, count in enumerate(line)
            if count and gold != predicted
        ]
        return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))


def read_scores(metrics: Mapping[str, Any], labels: Sequence[str]) -> list[Score]:
    """Return the scores of all students: first those trained on synthetic rows, then on mixed ones."""
    students = metrics.get("students") or {}
    scores = [_score(name, data, labels) for name, data in students.items()]
    return sorted(scores, key=lambda score: (not score.on_dataset, score.trained_on != "synthetic"))


def first_trained_on(scores: Sequence[Score], rows: str) -> Score | None:
    """Return the first student trained on `synthetic` or `mixed` rows or `seeds`; never the best of several.

    Picking the best by its test accuracy would flatter it.
    """
    return next((score for score in scores if score.trained_on == rows), None)


def _score(name: str, data: Mapping[str, Any], labels: Sequence[str]) -> Score:
    per_label = data.get("per_label") or {}
    ordered = [*(label for label in labels if label in per_label), *(k for k in per_label if k not in labels)]
    return Score(
        name=name,
        trained_on=str(data.get("trained_on", "unknown")),
        rows=data.get("rows"),
        base=data.get("base"),
        accuracy=data.get("accuracy"),
        low=data.get("accuracy_low"),
        high=data.get("accuracy_high"),
        macro_f1=data.get("macro_f1"),
        seconds=data.get("seconds"),
        per_label=tuple(_label_score(label, per_label[label]) for label in ordered),
        confusion=tuple(tuple(int(count) for count in line) for line in data.get("confusion") or ()),
        sources=tuple(data.get("sources") or ()),
        micro_f1=data.get("micro_f1"),
        several_labels=bool(data.get("several_labels")),
        absent_labels=tuple(data.get("absent_labels") or ()),
        calibration_error=data.get("calibration_error"),
        reliability=tuple(
            (each["confidence"], each["accuracy"], each["rows"]) for each in data.get("reliability") or ()
        ),
        runs=_runs(data.get("runs")),
        validation=_validation(data),
    )


def _runs(data: Mapping[str, Any] | None) -> Runs | None:
    if not data:
        return None
    return Runs(tuple(data["accuracies"]), data["mean"], data["std"], tuple(data.get("first") or ()))


def _validation(data: Mapping[str, Any]) -> str | None:
    """Say what a student's validation split showed; None when it had none."""
    accuracies = data.get("validation_accuracies")
    if not accuracies:
        return None
    kept = data.get("kept_epoch") or len(accuracies)
    return f"{percent(accuracies[kept - 1])} after epoch {kept} of {len(accuracies)}"


def _label_score(label: str, data: Mapping[str, Any]) -> LabelScore:
    return LabelScore(label, data.get("precision"), data.get("recall"), data.get("f1"), data.get("support"))
