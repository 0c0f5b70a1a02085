"""A run in rounds, killed while a student learns and in the middle of round two: nothing lost or doubled."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cluster.ledger import read_ledger
from cluster.storage import LocalStore
from tests.chaos.runs import LABELS, dataset, item_parts, metrics, write_recipe
from tests.chaos.storm import start
from tests.tiny_encoder import save_tiny_encoder


def rounds_recipe(folder: Path, run: str, **teacher: object) -> Path:
    """Write a recipe of S3: 12 rows a label from the teacher, then 6 from the student's errors."""
    # Labels are turned round, so that a student of the teacher's rows gets gold rows of each label wrong.
    texts, labels = list(LABELS.values()), list(LABELS)
    gold = [
        {"text": f"number {number} is what {texts[place]} was like", "label": labels[place - 1]}
        for number in range(16)
        for place in range(len(labels))
    ]
    (folder / "gold.jsonl").write_text("".join(json.dumps(line) + "\n" for line in gold))
    path = write_recipe(folder, run, 18, **teacher)
    recipe = yaml.safe_load(path.read_text())
    recipe["task"]["train"] = str(folder / "gold.jsonl")
    recipe["method"] = {"name": "s3", "rationales": 0, "error_rounds": 1, "repeats": 4}
    base = folder / "base"
    if not base.exists():
        save_tiny_encoder(base)
    student = {"base": str(base), "epochs": 12, "batch_size": 8, "max_tokens": 24, "learning_rate": 3e-3}
    recipe["feedback"] = {"student": student}
    path.write_text(yaml.safe_dump(recipe))
    return path


def killed_when(recipe: Path, address: str, due: Callable[[], bool]) -> None:
    """Start a driver and kill it as soon as something is so."""
    driver, deadline = start(recipe, address), time.monotonic() + 240
    try:
        while not due():
            assert driver.poll() is None, (recipe.parent / "drivers.log").read_text()[-2000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()


def settled(run: Path) -> Counter[int]:
    """Count the accepted rows of each round in a run's ledger."""
    tables = read_ledger(LocalStore(run), ("round", "status"))
    return Counter(
        row["round"] for table in tables for row in table.to_pylist() if row["status"] == "accepted"
    )


def finish(recipe: Path, address: str) -> None:
    driver: subprocess.Popen[bytes] = start(recipe, address)
    assert driver.wait(300) == 0, (recipe.parent / "drivers.log").read_text()[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_in_rounds_comes_through_kills(tmp_path: Path, ray_local: str) -> None:
    address = ray_local
    finish(rounds_recipe(tmp_path, "calm"), address)
    recipe = rounds_recipe(tmp_path, "stormy", seconds=0.4, in_flight=2)
    run = tmp_path / "store" / "stormy"
    learning = run / "rounds" / "001"
    killed_when(recipe, address, (learning / "run.json").exists)
    assert not (learning / "feedback" / "manifest.json").exists(), "killed before the student had learned"
    # Not when its ledger's folder appears: what is in it first may be half written.
    killed_when(recipe, address, lambda: settled(run)[1] > 0)
    before = settled(run)
    assert before[0] > 0 and before[1] < 3 * 6, "killed in the middle of the second round"
    assert (learning / "feedback" / "manifest.json").exists()
    taught = (learning / "feedback" / "errors.parquet").stat().st_mtime_ns
    finish(recipe, address)
    assert (learning / "feedback" / "errors.parquet").stat().st_mtime_ns == taught, "it is learned once"
    assert dataset(tmp_path, "stormy") == dataset(tmp_path, "calm")
    assert len(dataset(tmp_path, "calm")) == 3 * 18
    assert set(item_parts(tmp_path, "stormy").values()) == {1}
    told = metrics(tmp_path, "stormy")["rounds"]
    assert [each["rows"] for each in told] == [36, 54]
    assert told[1]["lessons"] == ["errors"]
    assert told[1]["errors"] > 0
