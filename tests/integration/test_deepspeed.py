import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from cluster.storage import LocalStore
from tests.tiny_encoder import save_tiny_encoder
from tests.zero_worker import WORLD, run, save_encoder
from training.predict import predict
from training.settings import StudentSettings
from training.strategy import Place
from training.student import train_student

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ALONE = Place(torch.device("cpu"))

SCENARIOS: list[dict[str, Any]] = [
    {"name": "one", "settings": {"zero": 1, "micro_batch": 2}},
    {"name": "two", "settings": {"zero": 2}, "save": 9},
    {"name": "three", "settings": {"zero": 3}, "save": 9},
    {"name": "three, accumulated", "settings": {"zero": 3, "micro_batch": 1}},
    {"name": "three from two", "settings": {"zero": 3}, "from": "two"},
    {"name": "two from three", "settings": {"zero": 2}, "from": "three"},
    {"name": "optimiser away", "settings": {"zero": 2, "offload": "optimizer"}, "save": 9},
    {"name": "all away", "settings": {"zero": 3, "offload": "all"}, "from": "optimiser away"},
    {"name": "plain pair", "settings": {"zero": 0, "micro_batch": 2}, "from": "three"},
    {"name": "read in parts", "settings": {"zero": 3}, "pretrained": True},
    {"name": "bf16 plain", "settings": {"zero": 0, "precision": "bf16"}},
    {"name": "bf16 three", "settings": {"zero": 3, "precision": "bf16"}},
]


SAME = [each["name"] for each in SCENARIOS if not {"pretrained", "precision"} & {*each, *each["settings"]}]
"""Those that do what one process of plain torch does."""


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train every scenario with two processes, and return what each left."""
    folder = tmp_path_factory.mktemp("zero")
    (folder / "scenarios.json").write_text(json.dumps(SCENARIOS))
    save_encoder(folder / "encoder")
    # No compiler is in reach: DeepSpeed has to do without one.
    hidden = os.environ | {"PATH": str(Path(sys.executable).parent), "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.zero_worker", str(rank), str(folder)],
            env=hidden | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD)},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(WORLD)
    ]
    said = [worker.communicate(timeout=200)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    found = json.loads((folder / "found.json").read_text())
    return {"folder": folder} | {each["name"]: result for each, result in zip(SCENARIOS, found, strict=True)}


@pytest.fixture(scope="module")
def alone(pair: dict[str, Any]) -> dict[str, Any]:
    """One process of plain torch, from the first step to the last."""
    return run({"name": "alone", "settings": {"zero": 0}}, ALONE, pair["folder"])


def test_a_model_that_is_divided_as_it_is_read_learns_the_same(pair: dict[str, Any]) -> None:
    whole = {"name": "whole", "settings": {"zero": 0}, "pretrained": True}
    assert_alike(pair["read in parts"], run(whole, ALONE, pair["folder"]))
    parts, expected = (
        load_file(pair["folder"] / each / "weights.safetensors") for each in ("read in parts", "whole")
    )
    assert {name: value.shape for name, value in parts.items()} == {
        name: value.shape for name, value in expected.items()
    }


def assert_alike(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-4) -> None:
    for kind in ("losses", "held", "seen"):
        np.testing.assert_allclose(one[kind], other[kind], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", SAME)
def test_two_processes_train_what_one_does(name: str, pair: dict[str, Any], alone: dict[str, Any]) -> None:
    assert_alike(pair[name], alone)
    weights, expected = (load_file(pair["folder"] / each / "weights.safetensors") for each in (name, "alone"))
    assert set(weights) == set(expected)
    for key, value in expected.items():
        torch.testing.assert_close(weights[key], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("checkpoint", ["two", "three", "optimiser away"])
def test_one_process_of_plain_torch_goes_on_from_what_two_left(
    checkpoint: str, pair: dict[str, Any], alone: dict[str, Any]
) -> None:
    scenario = {"name": "went on", "settings": {"zero": 0}, "from": checkpoint}
    assert_alike(run(scenario, ALONE, pair["folder"]), alone)


def test_half_precision_is_that_of_plain_torch(pair: dict[str, Any], alone: dict[str, Any]) -> None:
    assert_alike(pair["bf16 three"], pair["bf16 plain"], 0.05)
    assert pair["bf16 plain"]["losses"] != pytest.approx(alone["losses"], rel=1e-5)


LABELS = ("food", "space")


def toy_rows() -> pa.Table:
    words = {"food": ["soup", "butter", "oven", "garlic"], "space": ["rocket", "orbit", "comet", "lunar"]}
    rows = [
        {"text": f"The {one} and the {other}", "label": label}
        for label, several in words.items()
        for one in several
        for other in several
    ]
    return pa.Table.from_pylist(rows)


def test_ray_train_with_deepspeed_gives_the_student_of_plain_torch(ray_local: str, tmp_path: Path) -> None:
    store, base = LocalStore(tmp_path), save_tiny_encoder(tmp_path / "base")
    values = {
        "name": "z",
        "base": base,
        "epochs": 4,
        "learning_rate": 0.01,
        "batch_size": 7,
        "max_tokens": 16,
    }
    divided = StudentSettings(**values, zero=3, workers=2, micro_batch=2)
    report = train_student(toy_rows(), LABELS, divided, store, "students/z")
    assert (report.workers, report.steps, report.strategy) == (2, 20, "DeepSpeed ZeRO-3")
    assert report.losses[-1] < report.losses[0]
    expected, probabilities = plain(StudentSettings(**values))
    np.testing.assert_allclose(report.losses, expected, rtol=1e-3, atol=1e-4)

    folder = store.fetch("students/z")
    dynamics = pq.read_table(folder / "dynamics.parquet")["probability"].to_numpy()[-32:]
    np.testing.assert_allclose(dynamics, probabilities, atol=1e-3)
    predicted = predict(folder, toy_rows()["text"].to_pylist())
    np.testing.assert_allclose(predicted[np.arange(32), [0] * 16 + [1] * 16], probabilities, atol=1e-3)


def plain(settings: StudentSettings) -> tuple[list[float], np.ndarray]:
    """Return losses and last probabilities of the plain loop in this process."""
    from training.checks import checked_rows, label_ids
    from training.classifier import new_classifier
    from training.dataset import TrainingRows, tokenise
    from training.loop import fit
    from training.state import Training

    table = checked_rows(toy_rows(), LABELS, "z")
    model, tokenizer = new_classifier(settings.base, LABELS, settings.dropout, settings.seed)
    texts = tokenise(table["text"].to_pylist(), tokenizer, settings.max_tokens)
    now = Training(model, TrainingRows(texts, label_ids(table, LABELS)), settings, ALONE)
    history = fit(now, lambda _: None)
    return history.losses, history.probabilities[-1].numpy()
