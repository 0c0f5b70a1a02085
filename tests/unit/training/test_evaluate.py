import json

import numpy as np
import pytest
from scipy.stats import binomtest

from cluster.errors import DataError
from training.evaluate import calibration_error, reliability, score, score_several, spread_of, wilson

LABELS = ("a", "b", "c")


def certain(*predicted: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(predicted)]


def test_a_label_that_is_never_predicted_scores_zero() -> None:
    scores = score(["a", "a", "b", "c"], certain(0, 0, 1, 0), LABELS)
    assert scores.accuracy == 0.75
    assert scores.confusion == ((2, 0, 0), (0, 1, 0), (1, 0, 0))
    assert (scores.per_label["c"].precision, scores.per_label["c"].recall) == (0.0, 0.0)
    assert scores.per_label["a"].precision == pytest.approx(2 / 3)
    assert scores.macro_f1 == pytest.approx((0.8 + 1.0 + 0.0) / 3)
    assert scores.majority_accuracy == 0.5


def test_a_label_without_gold_rows_stays_out_of_the_mean() -> None:
    scores = score(["a", "b"], certain(0, 1), LABELS)
    assert scores.per_label["c"].support == 0
    assert scores.macro_f1 == 1.0
    assert scores.absent_labels == ("c",)


@pytest.mark.parametrize(("successes", "trials"), [(460, 500), (0, 10), (10, 10), (1, 3)])
def test_wilson_interval_is_that_of_scipy(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high))


def test_calibration_error_by_hand() -> None:
    # Two rows in the bin of 0.9 (half right), one in the bin of 0.5 (right).
    confidence = np.array([0.9, 0.9, 0.5])
    correct = np.array([True, False, True])
    assert calibration_error(confidence, correct) == pytest.approx((abs(1.8 - 1) + abs(0.5 - 1)) / 3)


def test_certain_and_right_is_calibrated() -> None:
    assert score(["a", "b", "c"], certain(0, 1, 2), LABELS).calibration_error == 0.0


def test_scores_are_json() -> None:
    scores = score(["a", "b", "c"], certain(0, 1, 1), LABELS).to_json()
    read = json.loads(json.dumps(scores))
    assert read["per_label"]["b"]["support"] == 1
    assert read["accuracy_interval"][0] < read["accuracy"] < read["accuracy_interval"][1]


@pytest.mark.parametrize(
    ("gold", "probabilities", "message"),
    [
        ([], np.empty((0, 3)), "no gold rows"),
        (["z"], certain(0), "gold label 'z' is unknown"),
        (["a"], np.ones((1, 2)), "do not fit 1 gold rows and 3 labels"),
        (["a"], np.full((1, 3), np.nan), "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(gold: list[str], probabilities: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        score(gold, probabilities, LABELS)


def test_the_bins_of_a_diagram_hold_every_row_and_give_the_calibration_error() -> None:
    confidence, correct = np.array([0.95, 0.95, 0.5, 0.51]), np.array([True, False, True, True])
    bins = reliability(confidence, correct)
    assert [(each.rows, each.accuracy) for each in bins] == [(2, 1.0), (2, 0.5)]
    assert all(each.low < each.confidence <= each.high for each in bins)
    gap = sum(each.rows * abs(each.confidence - each.accuracy) for each in bins) / 4
    assert calibration_error(confidence, correct) == pytest.approx(gap)
    assert gap == pytest.approx((2 * (1 - 0.505) + 2 * 0.45) / 4)


def test_several_labels_are_scored_row_by_row_and_one_by_one() -> None:
    gold = [["a", "b"], ["c"], [], ["a"]]
    given = np.array([[0.9, 0.8, 0.1], [0.2, 0.1, 0.9], [0.1, 0.1, 0.1], [0.6, 0.7, 0.2]], dtype=np.float32)
    scores = score_several(gold, given, LABELS)
    assert (scores.accuracy, scores.rows, scores.several_labels) == (0.75, 4, True)
    # Right: a, b of the first row, c, a of the last; wrong: b of the last.
    assert scores.micro_f1 == pytest.approx(2 * 4 / (2 * 4 + 1))
    assert scores.per_label["b"].precision == 0.5
    assert scores.macro_f1 == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert scores.majority_accuracy == 0.25
    assert scores.confusion == ()
    assert sum(each.rows for each in scores.reliability) == 12


def test_a_label_that_is_just_as_likely_as_not_is_not_given() -> None:
    assert score_several([["a"]], np.array([[0.5, 0.0, 0.0]]), LABELS).accuracy == 0.0


def test_the_spread_of_runs_is_that_of_a_sample() -> None:
    spread = spread_of([0.8, 0.9, 0.7])
    assert (spread.mean, spread.points) == (pytest.approx(0.8), pytest.approx(10.0))
    assert spread.accuracies == (0.8, 0.9, 0.7)
