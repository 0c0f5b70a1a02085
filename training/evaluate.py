"""Scores of a classifier on gold rows, of one label each or of several."""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from cluster.errors import DataError

CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error (Guo et al. 2017, arXiv 1706.04599: 15)."""
HOLDS_ABOVE = 0.5
"""Where a text may have several labels: those more probable than this are given to it."""
_Z95 = 1.959963984540054
_Probabilities = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of one label; support is the number of its gold rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predictions of a confidence above low and up to high: how sure they were, how many were right."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores on gold rows, all shares between 0 and 1.

    accuracy_interval is Wilson's at 95 %. macro_f1 is the mean over the labels that occur in the gold rows;
    absent_labels are those that do not, of which nothing is known. confusion[i][j] counts rows of gold label
    i that were predicted as label j, in the order of `labels`. majority_accuracy is what always answering
    the most frequent gold label would score. reliability holds the bins of the calibration error that are
    not empty.

    Where a row may have several labels, a row is right when all its labels are (subset accuracy); micro_f1
    counts every label of every row alike; the calibration error is that of the decisions about single
    labels; majority_accuracy answers the most frequent set of labels; and there is no confusion.
    """

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    micro_f1: float
    majority_accuracy: float
    calibration_error: float
    reliability: tuple[ReliabilityBin, ...]
    per_label: dict[str, LabelScores]
    labels: tuple[str, ...]
    absent_labels: tuple[str, ...]
    several_labels: bool
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as values JSON can hold."""
        return asdict(self)


def score(gold: Sequence[str], probabilities: _Probabilities, labels: Sequence[str]) -> Scores:
    """Compare (rows, labels) probabilities with the gold labels; DataError when they do not fit together."""
    truth = _holding([[label] for label in gold], labels).argmax(axis=1)
    _check(probabilities, len(gold), len(labels))
    predicted = probabilities.argmax(axis=1)
    every = np.arange(len(labels))
    confusion = confusion_matrix(truth, predicted, labels=every).tolist()
    return _scores(
        np.eye(len(labels), dtype=bool)[truth],
        np.eye(len(labels), dtype=bool)[predicted],
        probabilities.max(axis=1),
        predicted == truth,
        labels,
        tuple(tuple(row) for row in confusion),
    )


def score_several(
    gold: Sequence[Sequence[str]], probabilities: _Probabilities, labels: Sequence[str]
) -> Scores:
    """Compare (rows, labels) probabilities, each on its own, with all labels of each gold row.

    DataError when they do not fit together.
    """
    holds = _holding(gold, labels)
    _check(probabilities, len(gold), len(labels))
    given = probabilities > HOLDS_ABOVE
    confidence = np.maximum(probabilities, 1 - probabilities).ravel()
    return _scores(holds, given, confidence, (given == holds).ravel(), labels, None)


def test_predictions(
    ids: Sequence[str],
    gold: Sequence[Sequence[str]],
    probabilities: _Probabilities,
    labels: Sequence[str],
    several: bool = False,
) -> pa.Table:
    """Return for each gold row its id, `gold` and `predicted` labels, whether these are `right`, how sure.

    With `several`, labels are those more probable than a half, and `probability` is of the least sure one.
    """
    if several:
        given = [tuple(labels[place] for place in np.flatnonzero(row)) for row in probabilities > HOLDS_ABOVE]
        sure = np.maximum(probabilities, 1 - probabilities).min(axis=1)
    else:
        given = [(labels[place],) for place in probabilities.argmax(axis=1)]
        sure = probabilities.max(axis=1)
    kind = pa.list_(pa.string())
    right = [set(found) == set(truth) for found, truth in zip(given, gold, strict=True)]
    columns = {
        "id": pa.array(ids, pa.string()),
        "gold": pa.array([list(each) for each in gold], kind),
        "predicted": pa.array([list(each) for each in given], kind),
        "right": pa.array(right, pa.bool_()),
        "probability": pa.array(sure, pa.float32()),
    }
    return pa.table(columns)


def _scores(
    holds: npt.NDArray[np.bool_],
    given: npt.NDArray[np.bool_],
    confidence: npt.NDArray[Any],
    correct: npt.NDArray[np.bool_],
    labels: Sequence[str],
    confusion: tuple[tuple[int, ...], ...] | None,
) -> Scores:
    """Return the scores of what was given, (rows, labels), against what holds; confidence is per decision."""
    precision, recall, f1, support = precision_recall_fscore_support(holds, given, zero_division=0.0)
    right, rows = int((holds == given).all(axis=1).sum()), len(holds)
    sets = Counter(row.tobytes() for row in holds)
    bins = reliability(confidence, correct)
    return Scores(
        rows=rows,
        accuracy=right / rows,
        accuracy_interval=wilson(right, rows),
        macro_f1=float(f1[support > 0].mean()),
        micro_f1=float(f1_score(holds, given, average="micro", zero_division=0.0)),
        majority_accuracy=max(sets.values()) / rows,
        calibration_error=_gap(bins),
        reliability=bins,
        per_label={
            label: LabelScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        labels=tuple(labels),
        absent_labels=tuple(label for i, label in enumerate(labels) if not support[i]),
        several_labels=confusion is None,
        confusion=confusion or (),
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (JASA 1927, 22:209)."""
    share = successes / trials
    shrink = 1 + _Z95**2 / trials
    centre = (share + _Z95**2 / (2 * trials)) / shrink
    half = _Z95 * math.sqrt(share * (1 - share) / trials + _Z95**2 / (4 * trials**2)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def reliability(confidence: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    """Return the bins of a reliability diagram that hold predictions, the least sure first.

    The mean gap of confidence and accuracy, weighted by rows, is the expected calibration error.
    """
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)
    bins = np.digitize(confidence, edges[1:-1], right=True)
    return tuple(
        ReliabilityBin(
            low=float(edges[place]),
            high=float(edges[place + 1]),
            rows=int(inside.sum()),
            confidence=float(confidence[inside].mean(dtype=np.float64)),
            accuracy=float(correct[inside].mean()),
        )
        for place in range(CALIBRATION_BINS)
        if (inside := bins == place).any()
    )


def calibration_error(confidence: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy, weighted by bin size."""
    return _gap(reliability(confidence, correct))


def _gap(bins: Sequence[ReliabilityBin]) -> float:
    gaps = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins)
    return gaps / sum(each.rows for each in bins)


@dataclass(frozen=True, slots=True)
class Spread:
    """Accuracies of several runs, in their order; std is the sample's standard deviation (n - 1)."""

    accuracies: tuple[float, ...]
    mean: float
    std: float

    @property
    def points(self) -> float:
        """The standard deviation in percentage points."""
        return 100 * self.std


def spread_of(accuracies: Sequence[float]) -> Spread:
    """Return mean and spread of the accuracies of at least two runs."""
    return Spread(tuple(accuracies), statistics.fmean(accuracies), statistics.stdev(accuracies))


def _check(probabilities: _Probabilities, rows: int, labels: int) -> None:
    if probabilities.shape != (rows, labels):
        raise DataError(
            f"probabilities of shape {probabilities.shape} do not fit {rows} gold rows and "
            f"{labels} labels; was the student trained for this task?"
        )
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities hold values that are not finite; train the student again")


def _holding(gold: Sequence[Sequence[str]], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which labels hold for each row, (rows, labels)."""
    if not gold:
        raise DataError("there are no gold rows to score on")
    places = {label: position for position, label in enumerate(labels)}
    holds = np.zeros((len(gold), len(labels)), dtype=bool)
    for row, names in enumerate(gold):
        for name in names:
            if name not in places:
                raise DataError(f"gold label {name!r} is unknown; the student knows {', '.join(labels)}")
            holds[row, places[name]] = True
    return holds
