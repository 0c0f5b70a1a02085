"""Weights of rows of texts, learned with a small LSTM, and what they leave out of a dataset."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from cluster.errors import DataError, RunError
from cluster.storage import LocalStore
from training.feedback.bilevel import State
from training.feedback.lstm import PAD, UNKNOWN, read_words, seeded_classifier
from training.feedback.settings import WeightSettings
from training.feedback.weights import _weigh_there, leave_out, weights

LABELS = ("good", "bad")
CLUES = {
    "good": ("great", "fine", "lovely", "superb", "brilliant", "charming"),
    "bad": ("awful", "poor", "dreadful", "boring", "dull", "weak"),
}
FILLERS = ("the", "film", "was", "a", "plot", "and")


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Sums over threads are rounded otherwise; and a small model is slower with several."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def settings(**values: Any) -> WeightSettings:
    small = {"embedding": 16, "hidden": 16, "batch_size": 20, "learning_rate": 0.03, "least_steps": 12}
    return WeightSettings.model_validate(small | {"outer_iterations": 15} | values)


def reviews(count: int) -> tuple[pa.Table, list[bool]]:
    """Return rows with unmistakable words, of which every fifth has the wrong label, and which are right."""
    random = np.random.default_rng(0)
    texts, labels = [], []
    for row in range(count):
        kind = LABELS[row % 2]
        words = [*random.choice(FILLERS, 2), *random.choice(CLUES[kind], 3)]
        texts.append(" ".join(random.permutation(words)))
        labels.append(kind if row % 5 else LABELS[1 - row % 2])
    table = pa.table({"id": [f"r{row:03}" for row in range(count)], "text": texts, "label": labels})
    return table, [row % 5 != 0 for row in range(count)]


def test_rows_with_wrong_labels_weigh_less() -> None:
    rows, right = reviews(60)
    told: list[tuple[int, int]] = []

    found = weights(rows, LABELS, settings(), lambda done, whole: told.append((done, whole)))

    values = found["weight"].to_numpy()
    assert found["id"].to_pylist() == rows["id"].to_pylist()
    assert values.dtype == np.float64 and 0 <= values.min() <= values.max() <= 1
    assert roc_auc_score(right, values) >= 0.9
    assert told == [(done, 15) for done in range(1, 16)]


def test_the_order_of_rows_decides_nothing() -> None:
    rows, _ = reviews(20)
    order = np.random.default_rng(1).permutation(20)
    few = settings(outer_iterations=2)

    found = weights(rows, LABELS, few)

    shuffled = weights(rows.take(order), LABELS, few)
    assert shuffled["id"].to_pylist() == rows["id"].take(order).to_pylist()
    assert shuffled["weight"].to_pylist() == found["weight"].take(order).to_pylist()
    assert weights(rows, LABELS, settings(outer_iterations=2, seed=1))["weight"] != found["weight"]


def test_what_was_begun_is_gone_on_with_bit_for_bit(tmp_path: Any) -> None:
    rows, _ = reviews(20)
    few = settings(outer_iterations=3, checkpoint_seconds=0)
    store, kept = LocalStore(tmp_path), "scratch/state.safetensors"
    unbroken = weights(rows, LABELS, few)["weight"].to_numpy()

    _weigh_there(rows, LABELS, settings(outer_iterations=2, checkpoint_seconds=0), store, kept, 1)
    assert State.unpacked(store.read(kept)).iteration == 2
    resumed = _weigh_there(rows, LABELS, few, store, kept, 1)

    assert isinstance(resumed, np.ndarray)
    assert resumed.tolist() == unbroken.tolist()
    # It began where the first had stopped: another state gives other weights.
    done = State.unpacked(store.read(kept))
    store.write(kept, State(done.theta + 1, done.mean, done.square, 3).packed())
    moved = _weigh_there(rows, LABELS, few, store, kept, 1)
    assert isinstance(moved, np.ndarray)
    assert moved.tolist() != unbroken.tolist()


def test_rows_that_cannot_be_weighed_are_told() -> None:
    rows, _ = reviews(4)
    several = rows.set_column(2, "label", pa.array([["good"], ["bad"], [], ["good", "bad"]]))

    with pytest.raises(DataError, match="no column 'id'"):
        weights(rows.drop_columns(["id"]), LABELS, settings())
    with pytest.raises(DataError, match="two have the id x"):
        weights(rows.set_column(0, "id", pa.array(["a", "x", "b", "x"])), LABELS, settings())
    with pytest.raises(DataError, match="one label"):
        weights(several, LABELS, settings())
    with pytest.raises(DataError, match="at least two labels"):
        weights(rows.take([1, 3]), LABELS, settings())


def test_each_label_keeps_its_heaviest_rows() -> None:
    rows = pa.table({"id": ["d", "c", "b", "a", "e"], "label": ["x", "x", "x", "y", "x"]})
    weighed = pa.table({"id": ["a", "b", "c", "d", "e"], "weight": [0.1, 0.5, 0.9, 0.5, 0.2]})

    # Of b and d, which weigh the same, the smaller id stays.
    assert leave_out(weighed, rows, {"x": 2, "y": 1}).to_pylist() == ["d", "e"]
    assert leave_out(weighed, rows, {"x": 3, "y": 0}).to_pylist() == ["a", "e"]
    assert leave_out(weighed, rows, {"x": 9}).to_pylist() == []
    with pytest.raises(RunError, match="row e has none"):
        leave_out(weighed.slice(0, 4), rows, {"x": 2})


def test_words_are_numbered_by_how_often_they_occur() -> None:
    texts, size = read_words(["A cat, a dog.", "a Cat"], most=3, longest=4)

    # a: 3, cat: 2, then "," before "dog": both once; the last word of the first text is cut.
    assert size == 5
    tokens, mask = texts.padded(np.array([0, 1]))
    assert tokens.tolist() == [[2, 3, 4, 2], [2, 3, PAD, PAD]]
    assert mask.sum(1).tolist() == [4, 2]
    assert read_words(["a b"], most=1, longest=9)[0].tokens.tolist() == [2, UNKNOWN]
    assert read_words(["映画 ok"], most=9, longest=9)[0].lengths().tolist() == [3]


def test_the_classifier_does_not_look_at_padding_nor_at_other_seeds() -> None:
    torch.manual_seed(5)
    model = seeded_classifier(words=9, classes=2, embedding=4, hidden=6, seed=3)
    torch.manual_seed(6)
    again = seeded_classifier(words=9, classes=2, embedding=4, hidden=6, seed=3)
    short, padded = torch.tensor([[2, 3]]), torch.tensor([[2, 3, PAD, PAD], [4, 5, 6, 7]])

    alone = model(short, torch.tensor([2]))

    assert torch.allclose(model(padded, torch.tensor([2, 4]))[:1], alone, atol=1e-6)
    assert torch.equal(again(short, torch.tensor([2])), alone)
    assert all(value.abs().max() <= 6**-0.5 for value in model.parameters())


def test_published_code_is_a_preset_that_single_values_win_over() -> None:
    published = WeightSettings.model_validate({"preset": "published_code", "least_steps": 7})

    assert (published.normaliser, published.least_steps, published.epochs) == ("fixed_weights", 7, 1)
    assert WeightSettings().normaliser == "rows"
    assert WeightSettings().identity() == WeightSettings(checkpoint_seconds=1.0).identity()
    with pytest.raises(ValidationError, match="multiple of 2"):
        WeightSettings(hidden=3)
