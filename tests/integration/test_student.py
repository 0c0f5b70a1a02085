"""A student learns, once; rows with a wrong label stand out to it; what goes wrong ends as it should."""

import json
import math
import os
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from cluster.errors import ModelError, RunError
from cluster.storage import LocalStore
from tests.tiny_encoder import save_tiny_encoder
from training.cartography import data_map, filtered
from training.classifier import new_classifier
from training.dataset import TrainingRows, checked_rows, label_ids, tokenise
from training.evaluate import score
from training.knowledge_settings import CartographySettings, InformationSettings
from training.loop import fit
from training.metrics.information import FOLDER, measure
from training.metrics.split import held_out
from training.predict import predict, predict_on_cluster
from training.records import StudentReport
from training.settings import StudentSettings
from training.state import STATE, Training
from training.strategy import Place
from training.student import train_student

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LABELS = ("sport", "food", "space")
WORDS = {
    "sport": ["football", "goal", "match", "league", "coach", "striker", "stadium", "referee"],
    "food": ["soup", "butter", "recipe", "oven", "garlic", "dessert", "flavour", "kitchen"],
    "space": ["rocket", "orbit", "planet", "astronaut", "comet", "galaxy", "lunar", "telescope"],
}


def toy_rows(per_label: int, seed: int) -> pa.Table:
    random = np.random.default_rng(seed)
    rows: list[dict[str, str]] = []
    for label, words in WORDS.items():
        for number in range(per_label):
            chosen = random.choice(words, 3, replace=False)
            text = f"We talked about the {chosen[0]}, a {chosen[1]} and the {chosen[2]}."
            rows.append({"id": f"{label}-{number}", "text": text, "label": label})
    return pa.Table.from_pylist([rows[place] for place in random.permutation(len(rows))])


MINILM = {"preset": "minilm", "epochs": 3, "batch_size": 8, "max_tokens": 32}
TEXT = f"{FOLDER}/text"
"""Where what measures V-information looks for a student that reads the texts."""


def student(**values: Any) -> StudentSettings:
    return StudentSettings(**{"name": "toy"} | MINILM | values)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@dataclass(frozen=True, slots=True)
class Learned:
    """A student that learned from rows of which some have a wrong label, and rows it has not seen."""

    store: LocalStore
    rows: pa.Table
    wrong: frozenset[str]
    gold: pa.Table
    report: StudentReport


@pytest.fixture(scope="module")
def learned(ray_local: str, tmp_path_factory: pytest.TempPathFactory) -> Learned:
    right, gold = held_out(toy_rows(26, seed=0), LABELS, 0.4, seed=0)
    # One row each of two labels is told to be of the next label.
    switched = {
        next(name for name in right["id"].to_pylist() if name.startswith(label)): told
        for label, told in pairwise(LABELS)
    }
    told = [switched.get(row["id"], row["label"]) for row in right.to_pylist()]
    rows = right.set_column(right.column_names.index("label"), "label", pa.array(told))
    store = LocalStore(tmp_path_factory.mktemp("learned"))
    report = train_student(rows, LABELS, student(), store, TEXT)
    return Learned(store, rows, frozenset(switched), gold, report)


def test_student_learns_and_is_trained_once(learned: Learned) -> None:
    store, rows, report = learned.store, learned.rows, learned.report
    assert (report.rows, report.steps, report.workers, len(report.losses)) == (48, 18, 1, 3)
    assert report.losses[-1] < report.losses[0]

    texts, truth = learned.gold["text"].to_pylist(), learned.gold["label"].to_pylist()
    probabilities = predict_on_cluster(store, TEXT, texts)
    assert score(truth, probabilities, LABELS).accuracy > 0.9
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    backwards = predict(store.fetch(TEXT), texts[::-1], batch_size=7)
    np.testing.assert_allclose(backwards[::-1], probabilities, atol=1e-3)

    started = time.monotonic()
    again = train_student(rows, LABELS, student(name="other", workers=2), store, TEXT)
    assert again.reused
    assert again.losses == report.losses
    assert time.monotonic() - started < 10
    check_folder(store, rows)


def check_folder(store: LocalStore, rows: pa.Table) -> None:
    folder = store.fetch(TEXT)
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "sport", "1": "food", "2": "space"}
    assert (config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]) == (0.0, 0.0)
    assert json.loads((folder / "metrics.json").read_text())["settings"]["learning_rate"] == 3e-4
    dynamics = pq.read_table(folder / "dynamics.parquet")
    assert dynamics.num_rows == 3 * rows.num_rows
    assert dynamics["id"].to_pylist() == rows["id"].to_pylist() * 3
    last = dynamics.slice(2 * rows.num_rows).to_pydict()
    assert np.mean(last["correct"]) > 0.9
    assert all(p > 0.33 for p, right in zip(last["probability"], last["correct"], strict=True) if right)
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_wrong_labels_stand_out_on_the_students_map(learned: Learned) -> None:
    rows = learned.rows
    settings = CartographySettings.model_validate(
        {"student": MINILM, "axis": "confidence", "fraction": 1 - len(learned.wrong) / len(rows)}
    )
    mapped = data_map(pq.read_table(learned.store.fetch(f"{TEXT}/dynamics.parquet")), settings)
    assert mapped["id"].to_pylist() == rows["id"].to_pylist()
    assert set(mapped.filter(pc.invert(mapped["kept"]))["id"].to_pylist()) == learned.wrong
    assert len(filtered(rows, mapped)) == len(rows) - len(learned.wrong)


def test_texts_are_worth_bits_to_a_student(learned: Learned) -> None:
    pair = InformationSettings.model_validate({"student": MINILM})
    # Of both students the one that reads texts is there already.
    found, table = measure(learned.rows, learned.gold, LABELS, pair, learned.store)
    assert found.rows == len(table) == len(learned.gold)
    assert found.null_entropy == pytest.approx(math.log2(3), abs=0.2)
    assert found.bits > 0.5
    assert set(table["predicted"].to_pylist()) == set(LABELS)


def test_killed_worker_resumes_and_two_workers_learn_what_one_does(
    ray_local: str, store: LocalStore, tmp_path: Path
) -> None:
    rows = toy_rows(9, seed=2)
    # Checkpoints of a small model after every step: the worker dies within an epoch.
    base = save_tiny_encoder(tmp_path / "base")
    settings = student(base=base, checkpoint_seconds=0, workers=2, epochs=5)
    killer = threading.Thread(target=kill_a_worker, args=(store.root / "students",))
    killer.start()
    report = train_student(rows, LABELS, settings, store, "students/two")
    killer.join()
    assert report.workers == 2
    assert report.resumed_after > 0

    alone = fit(training(rows, settings), lambda _: None)
    np.testing.assert_allclose(report.losses, alone.losses, rtol=0.01, atol=0.001)
    dynamics = pq.read_table(store.fetch("students/two/dynamics.parquet"))
    expected = torch.cat(alone.probabilities).numpy()
    np.testing.assert_allclose(dynamics["probability"].to_numpy(), expected, atol=0.01)


def training(rows: pa.Table, settings: StudentSettings) -> Training:
    """Return what a worker would train, without Ray."""
    model, tokenizer = new_classifier(settings.base, LABELS, settings.dropout, settings.seed)
    table = checked_rows(rows, LABELS, settings.name)
    texts = tokenise(table["text"].to_pylist(), tokenizer, settings.max_tokens)
    return Training(
        model, TrainingRows(texts, label_ids(table, LABELS)), settings, Place(torch.device("cpu"))
    )


def kill_a_worker(folder: Path) -> None:
    """Kill a training process of this test's own Ray as soon as there is a checkpoint."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        if list(folder.rglob(STATE)) and list(folder.rglob("checkpoint_manager_snapshot.json")):
            for process in psutil.Process(os.getpid()).children(recursive=True):
                if "RayTrainWorker" in process.name() + " ".join(process.cmdline()):
                    process.kill()
                    return
        time.sleep(0.02)


def test_failures_end_with_one_message(
    ray_local: str, store: LocalStore, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = toy_rows(4, seed=3)
    with pytest.raises(RunError, match=r"student toy: the loss of step \d of epoch 1 is nan; lower"):
        train_student(rows, LABELS, student(learning_rate=1e30), store, "students/nan")
    assert not store.exists("students/nan/manifest.json")
    with pytest.raises(ModelError, match="there is no such folder"):
        train_student(rows, LABELS, student(base="./nowhere"), store, "students/none")
    output = capfd.readouterr()
    assert output.out + output.err == ""
