"""Which rows a student agrees with, which ones leave, and which gold rows it gets wrong."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from training.feedback.agreement import agreement, folds, leave_out, predicts_one
from training.feedback.errors import errors

LABELS = ("sport", "trade", "world")


def rows_of(labels: Sequence[str]) -> pa.Table:
    ids = [f"r{number:02d}" for number in range(len(labels))]
    return pa.table({"id": pa.array(ids, pa.string()), "label": pa.array(labels, pa.string())})


def said(*rows: tuple[float, float, float]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    return np.array(rows, dtype=np.float32).reshape(len(rows), 3)


ROWS = rows_of(["sport", "trade", "world", "trade"])
SAID = said((0.5, 0.3, 0.2), (0.1, 0.2, 0.7), (0.25, 0.5, 0.25), (0.4, 0.4, 0.2))


def test_agreement_has_the_prediction_and_the_probability_of_the_rows_own_label() -> None:
    table = agreement(ROWS, SAID, LABELS)
    assert table.column_names == ["id", "predicted", "probability"]
    assert table["id"] == ROWS["id"]
    # Of equals the first is predicted.
    assert table["predicted"].to_pylist() == ["sport", "world", "trade", "sport"]
    assert table["probability"].to_pylist() == pytest.approx([0.5, 0.2, 0.25, 0.4])
    # The order of the labels is the student's.
    turned = agreement(ROWS, SAID[:, ::-1], LABELS[::-1])
    assert turned["probability"] == table["probability"]
    assert turned["predicted"].to_pylist()[:3] == table["predicted"].to_pylist()[:3]


def test_no_rows_are_an_empty_answer() -> None:
    empty = agreement(rows_of([]), said(), LABELS)
    assert (len(empty), empty.column_names) == (0, ["id", "predicted", "probability"])
    assert leave_out(empty, rows_of([]), {"sport": 1}).to_pylist() == []
    assert len(errors(rows_of([]), said(), LABELS)) == 0


def test_a_label_that_the_student_does_not_know_is_named() -> None:
    with pytest.raises(DataError, match="does not know the label 'weather' but sport, trade, world"):
        agreement(rows_of(["sport", "weather"]), SAID[:2], LABELS)


def test_rows_taken_for_another_label_leave_and_then_the_least_probable_beyond_the_target() -> None:
    rows = rows_of(["sport"] * 5 + ["trade"] * 2)
    found = said(
        (0.6, 0.2, 0.2),
        (0.9, 0.1, 0),
        (0.1, 0.8, 0.1),
        (0.6, 0.4, 0),
        (0.7, 0.2, 0.1),
        (0, 1, 0),
        (0, 0.9, 0.1),
    )
    agreed = agreement(rows, found, LABELS)
    assert leave_out(agreed, rows, {"sport": 9, "trade": 9}).to_pylist() == ["r02"]
    # r00 and r03 are equally probable: the smaller id stays. A label without a target keeps all.
    assert leave_out(agreed, rows, {"sport": 3}).to_pylist() == ["r02", "r03"]
    assert leave_out(agreed, rows, {"sport": 2, "trade": 1}).to_pylist() == ["r00", "r02", "r03", "r06"]
    assert leave_out(agreed, rows, {"sport": 0, "trade": 0}).to_pylist() == rows["id"].to_pylist()
    mixed = agreed.take([6, 2, 0, 5, 1, 4, 3])
    assert leave_out(mixed, rows, {"sport": 2, "trade": 1}).to_pylist() == ["r00", "r02", "r03", "r06"]
    with pytest.raises(DataError, match="not asked about row 'r06'"):
        leave_out(agreed.slice(0, 6), rows, {})


@given(
    labels=st.lists(st.sampled_from(LABELS), max_size=20),
    seed=st.integers(0, 1000),
    target=st.integers(0, 5),
    parts=st.integers(1, 3),
)
def test_what_leaves_is_what_a_slow_reference_says(
    labels: list[str], seed: int, target: int, parts: int
) -> None:
    # Few distinct probabilities, so that many rows tie.
    found = np.random.default_rng(seed).choice([0.1, 0.3, 0.5], (len(labels), 3)).astype(np.float32)
    whole = rows_of(labels)
    cut = -(-len(labels) // parts) or 1
    rows = pa.concat_tables([whole.slice(start, cut) for start in range(0, max(1, len(labels)), cut)])
    agreed = agreement(rows, found, LABELS)
    stay: list[str] = []
    for label in LABELS:
        column = LABELS.index(label)
        mine = [n for n, each in enumerate(labels) if each == label and int(found[n].argmax()) == column]
        best = sorted(mine, key=lambda n: (-found[n][column], n))
        stay += [f"r{n:02d}" for n in best[:target]]
    out = leave_out(agreed, rows, dict.fromkeys(LABELS, target))
    assert out.type == pa.string()
    assert out.to_pylist() == [name for name in rows["id"].to_pylist() if name not in stay]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_folds_are_even_for_every_label_and_follow_the_ids(count: int) -> None:
    rows = rows_of(["sport"] * 11 + ["trade"] * 7 + ["world"] * 2)
    dealt = folds(rows, count)
    for labels in ({"sport"}, {"trade"}, {"world"}, set(LABELS)):
        mine = [fold for fold, each in zip(dealt, rows["label"].to_pylist(), strict=True) if each in labels]
        sizes = np.bincount(mine, minlength=count)
        assert len(sizes) == count and sizes.max() - sizes.min() <= 1
    order = np.random.default_rng(1).permutation(len(rows))
    assert (folds(rows.take(pa.array(order)), count) == dealt[order]).all()
    assert folds(rows_of([]), count).tolist() == []


def test_a_student_that_predicts_one_label_for_all_is_found_out() -> None:
    assert predicts_one(SAID, LABELS) is None
    assert predicts_one(said((0.5, 0.3, 0.2), (0.4, 0.3, 0.3)), LABELS) == "sport"
    assert predicts_one(said((0, 0, 1), (0, 0.4, 0.6)), LABELS) == "world"
    assert predicts_one(said((0, 0, 1)), LABELS) is None and predicts_one(said(), LABELS) is None


def test_errors_are_the_misclassified_gold_rows_in_their_order() -> None:
    gold = ROWS.append_column("text", pa.array(["a", "b", "c", "d"]))
    assert errors(gold, SAID, LABELS).to_pylist() == [
        {"id": "r01", "label": "trade", "predicted": "world", "probability": pytest.approx(0.2)},
        {"id": "r02", "label": "world", "predicted": "trade", "probability": pytest.approx(0.25)},
        {"id": "r03", "label": "trade", "predicted": "sport", "probability": pytest.approx(0.4)},
    ]
    right = said((1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 0))
    assert errors(gold, right, LABELS).to_pylist() == []
