"""Scores of a classifier on gold rows."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from cluster.errors import DataError

CALIBRATION_BINS = 15
"""Equal-width bins of the calibration error (Guo et al. 2017, arXiv 1706.04599: 15)."""
_Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of one label; support is the number of its gold rows."""

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores on gold rows, all shares between 0 and 1.

    accuracy_interval is Wilson's at 95 %. macro_f1 is the mean over the labels that occur in the gold rows.
    confusion[i][j] counts rows of gold label i that were predicted as label j, in the order of `labels`.
    majority_accuracy is what always answering the most frequent gold label would score.
    """

    rows: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    macro_f1: float
    majority_accuracy: float
    calibration_error: float
    per_label: dict[str, LabelScores]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """Return the scores as values JSON can hold."""
        return asdict(self)


def score(gold: Sequence[str], probabilities: npt.NDArray[np.floating[Any]], labels: Sequence[str]) -> Scores:
    """Compare (rows, labels) probabilities with the gold labels; DataError when they do not fit together."""
    truth = _positions(gold, labels)
    if probabilities.shape != (len(gold), len(labels)):
        raise DataError(
            f"probabilities of shape {probabilities.shape} do not fit {len(gold)} gold rows and "
            f"{len(labels)} labels; was the student trained for this task?"
        )
    if not np.isfinite(probabilities).all():
        raise DataError("probabilities hold values that are not finite; train the student again")
    predicted = probabilities.argmax(axis=1)
    correct = predicted == truth
    every = np.arange(len(labels))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=every, zero_division=0.0
    )
    return Scores(
        rows=len(gold),
        accuracy=float(correct.mean()),
        accuracy_interval=wilson(int(correct.sum()), len(gold)),
        macro_f1=float(f1[support > 0].mean()),
        majority_accuracy=float(support.max() / len(gold)),
        calibration_error=calibration_error(probabilities.max(axis=1), correct),
        per_label={
            label: LabelScores(float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]))
            for i, label in enumerate(labels)
        },
        labels=tuple(labels),
        confusion=tuple(tuple(row) for row in confusion_matrix(truth, predicted, labels=every).tolist()),
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share (JASA 1927, 22:209)."""
    share = successes / trials
    shrink = 1 + _Z95**2 / trials
    centre = (share + _Z95**2 / (2 * trials)) / shrink
    half = _Z95 * math.sqrt(share * (1 - share) / trials + _Z95**2 / (4 * trials**2)) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)


def calibration_error(confidence: npt.NDArray[Any], correct: npt.NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean gap of confidence and accuracy, weighted by bin size."""
    edges = np.linspace(0, 1, CALIBRATION_BINS + 1)[1:-1]
    bins = np.digitize(confidence, edges, right=True)
    gaps = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(correct))


def _positions(gold: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    if not gold:
        raise DataError("there are no gold rows to score on")
    places = {label: position for position, label in enumerate(labels)}
    unknown = next((label for label in gold if label not in places), None)
    if unknown is not None:
        raise DataError(f"gold label {unknown!r} is unknown; the student knows {', '.join(labels)}")
    return np.array([places[label] for label in gold], dtype=np.int64)
