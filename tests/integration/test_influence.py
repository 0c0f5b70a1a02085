"""Influence of a real, small student's rows by Ray tasks: what a plain loop finds, and what harms."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.errors import DataError
from cluster.storage import LocalStore
from tests.tiny_encoder import save_tiny_encoder
from training.classifier import new_classifier, save_classifier
from training.dataset import TrainingRows, label_ids, tokenise
from training.feedback.estimate import Bench, direction_there, slopes_there
from training.feedback.influence import influence, warnings_of
from training.feedback.judgement import saved_judge
from training.feedback.lissa import inverse_curvature
from training.feedback.settings import InfluenceSettings
from training.loop import fit
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LABELS = ("sport", "food")
WORDS = {
    "sport": ["football", "goal", "match", "league", "coach", "striker", "stadium", "referee"],
    "food": ["soup", "butter", "recipe", "oven", "garlic", "dessert", "flavour", "kitchen"],
}
FLIPPED = {"sport-00", "sport-01", "food-00", "food-01"}
SETTINGS = InfluenceSettings(shards=2)


def rows(per_label: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    told = [
        {
            "id": f"{label}-{number:02d}",
            "text": " ".join(random.choice(words, random.integers(2, 6), replace=False)),
            "label": label,
        }
        for label, words in WORDS.items()
        for number in range(per_label)
    ]
    return pa.Table.from_pylist([told[place] for place in random.permutation(len(told))])


def mislabelled(table: pa.Table) -> pa.Table:
    other = {"sport": "food", "food": "sport"}
    told = [
        row | {"label": other[row["label"]]} if row["id"] in FLIPPED else row for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(told)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """A store with a student in `student`, trained as workers train it, but in this process."""
    place = LocalStore(tmp_path_factory.mktemp("store"))
    base = save_tiny_encoder(tmp_path_factory.mktemp("base"))
    settings = StudentSettings(name="s", base=base, epochs=6, batch_size=8, learning_rate=1e-2, max_tokens=16)
    model, tokenizer = new_classifier(base, LABELS, 0.0, 0)
    table = mislabelled(rows(20, seed=0))
    texts = tokenise(table["text"].to_pylist(), tokenizer, settings.max_tokens)
    taught = TrainingRows(texts, label_ids(table, LABELS))
    fit(Training(model, taught, settings, Place(torch.device("cpu"))), lambda _: None)
    save_classifier(model, tokenizer, settings.max_tokens, place.root / "student")
    return place


def by_loop(store: LocalStore, table: pa.Table, validation: pa.Table) -> dict[str, float]:
    """Return every row's influence, a backward pass for each."""
    judge = saved_judge(store.fetch("student"), LABELS, SETTINGS)
    model, tokenizer = judge.learner.model, judge.learner.reader.tokenizer
    vector = judge.validation(validation, SETTINGS).gradient(np.arange(len(validation)))
    ordered = table.sort_by([("text", "ascending"), ("label", "ascending")])
    direction = inverse_curvature(judge.surface(ordered), np.arange(len(ordered)), vector, SETTINGS, seed=5)
    found = {}
    for row in table.to_pylist():
        said = tokenizer([row["text"]], return_tensors="pt", truncation=True)
        model.zero_grad()
        logits = model(input_ids=said["input_ids"], attention_mask=said["attention_mask"]).logits
        torch.nn.functional.cross_entropy(logits, torch.tensor([LABELS.index(row["label"])])).backward()
        products = [
            float((weight.grad * direction[name]).sum())
            for name, weight in model.named_parameters()
            if weight.grad is not None
        ]
        found[row["id"]] = -sum(products)
    return found


def test_values_are_a_plain_loops_and_wrong_labels_harm(ray_local: str, store: LocalStore) -> None:
    table, validation = mislabelled(rows(20, seed=0)), rows(15, seed=1).select(["text", "label"])
    found = influence(store, "student", table, validation, LABELS, SETTINGS, seed=5)
    assert found.column_names == ["id", "label", "influence"]
    assert found["influence"].type == pa.float64()
    assert found["id"].to_pylist() == table["id"].to_pylist()
    assert found["label"].to_pylist() == table["label"].to_pylist()
    assert warnings_of(found) == ()

    values = dict(zip(found["id"].to_pylist(), found["influence"].to_pylist(), strict=True))
    expected = by_loop(store, table, validation)
    largest = max(abs(value) for value in expected.values())
    assert largest > 0
    assert values == pytest.approx(expected, abs=1e-3 * largest)

    wrong = [value for name, value in values.items() if name in FLIPPED]
    right = [value for name, value in values.items() if name not in FLIPPED]
    assert np.mean(wrong) > 0 > np.mean(right)

    # Rows in another order, one task, the other derivative, and the same values; of few rows only these.
    settings = InfluenceSettings(shards=1, derivative="backward")
    turned = table.take(pa.array(np.arange(len(table))[::-1]))
    again = influence(store, "student", turned, validation, LABELS, settings, seed=5)
    assert again["id"].to_pylist() == turned["id"].to_pylist()
    found_again = dict(zip(again["id"].to_pylist(), again["influence"].to_pylist(), strict=True))
    assert found_again == pytest.approx(values, abs=1e-3 * largest)


def bench(store: LocalStore, **values: Any) -> Bench:
    return Bench(store, "student", LABELS, InfluenceSettings(**values), cpus=1, seed=0)


def with_bias(store: LocalStore, folder: Path, bias: float) -> LocalStore:
    """Return a store with the student, whose head leans to food by so much."""
    judge = saved_judge(store.fetch("student"), LABELS, SETTINGS)
    with torch.no_grad():
        judge.learner.model.classifier.bias.copy_(torch.tensor([0.0, bias]))
    judge.learner.save(folder / "student")
    return LocalStore(folder)


def test_a_student_of_one_answer_says_so_and_gives_numbers(store: LocalStore, tmp_path: Path) -> None:
    table, validation = rows(4, seed=0), rows(3, seed=1)
    leaning = bench(with_bias(store, tmp_path / "leaning", 20.0), depth=2)
    direction, warnings = direction_there(leaning, table, validation)
    assert warnings == ("the student answers 'food' to every validation row",)
    values = slopes_there(leaning, table, 0, len(table), direction)
    assert isinstance(values, np.ndarray)
    assert np.isfinite(values).all()
    assert values.any()

    # So sure that the loss is flat in float32.
    sure = replace(leaning, store=with_bias(store, tmp_path / "sure", 1e4))
    direction, warnings = direction_there(sure, table, validation)
    assert isinstance(warnings, tuple)
    assert "no row has influence: train it for fewer epochs" in warnings[1]
    found = slopes_there(sure, table, 2, 5, direction)
    assert isinstance(found, np.ndarray)
    assert found.tolist() == [0, 0, 0]


def test_the_head_alone_takes_part_when_told(store: LocalStore) -> None:
    head = bench(store, parameters="head", depth=2)
    direction, _ = direction_there(head, rows(4, seed=0), rows(3, seed=1))
    assert set(direction) == {"classifier.weight", "classifier.bias"}
    values = slopes_there(head, rows(4, seed=0), 0, 8, direction)
    assert isinstance(values, np.ndarray)
    assert np.isfinite(values).all()
    assert values.any()


def test_a_student_of_another_task_is_refused(store: LocalStore) -> None:
    other = replace(bench(store), labels=("food", "sport", "space"))
    _, outcome = direction_there(other, rows(4, seed=0), rows(3, seed=1))
    assert isinstance(outcome, DataError)
    assert "the student knows the labels sport, food, the task has food, sport, space" in str(outcome)
