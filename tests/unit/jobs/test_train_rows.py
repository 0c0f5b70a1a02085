"""The rows a student learns from: the dataset, the seeds, or both; and where the report says which."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import SettingsError
from cluster.lease import Lease
from cluster.progress import Progress
from cluster.rundir import read_metrics
from cluster.settings import digest
from cluster.storage import LocalStore
from jobs import evaluate as evaluate_module
from jobs.evaluate import run as evaluate
from jobs.recipe import Recipe
from jobs.report.headline import missing_parts, summary, tiles
from jobs.report.scores import read_scores
from jobs.run import accuracies
from jobs.stage import Plan, Stage
from jobs.train import pupils, training_rows
from synth.task import Gold, Task, load_task
from training.dataset import checked_rows, rows_digest
from training.settings import StudentSettings

LABELS = ["entailment", "neutral"]
RECIPE: dict[str, Any] = {
    "run": "r",
    "task": {
        "name": "nli",
        "instruction": "Does the claim follow?",
        "labels": {"entailment": "it follows", "neutral": "it is open"},
        "fields": ["text", "claim"],
    },
    "method": {"name": "fewgen"},
    "teacher": {"backend": "scripted"},
    "targets": {"rows_per_label": 2},
}
IDENTITY = "966c6f57900b5088c390bef59b5ed221"
"""Hash of the identity of the preset distilbert, as it was before seeds could be mixed in."""
PLAIN = {"name": "plain", "base": "b"}
MIXED = {"name": "mixed", "base": "b", "mix_seeds": True}


class Held(Lease):
    """A lease that nobody disputes."""

    def __init__(self) -> None:
        pass

    def renew(self, force: bool = False) -> None:
        pass


def stage(folder: Path, *students: dict[str, Any], seeds: int = 3) -> Stage:
    """Return a run with a dataset of five rows in two files, and so many seeds."""
    recipe = Recipe.model_validate(RECIPE | {"students": list(students)})
    assert isinstance(recipe.task, dict)
    gold = tuple(_gold("seed", number) for number in range(seeds))
    task = Task(load_task(recipe.task, folder).settings, gold)
    (folder / "data").mkdir(exist_ok=True)
    for part, numbers in enumerate(((0, 1, 2), (3, 4))):
        rows = {
            "text": [f"Text {n}." for n in numbers],
            "claim": [f"Claim {n}." for n in numbers],
            "label": pa.array([n % 2 for n in numbers], pa.int64()),
            "id": [f"{digest(['row', n])}-0" for n in numbers],
        }
        pq.write_table(pa.table(rows), folder / f"data/train-{part:05d}-of-00002.parquet")
    store = LocalStore(folder)
    plan = Plan(recipe, task, tuple(_gold("test", number) for number in range(4)), "")
    return Stage(plan, store, Progress(None), store, Held())


def _gold(kind: str, number: int) -> Gold:
    fields = {"text": f"{kind} {number}.", "claim": f"Its claim {number}."}
    return Gold(digest([kind, number])[:16], fields, LABELS[number % 2])


def rows_of(stage: Stage, name: str) -> pa.Table:
    (pupil,) = (each for each in pupils(stage) if each.settings.name == name)
    return checked_rows(training_rows(stage, pupil), stage.task.labels, name)


def test_each_student_learns_from_what_it_is_told_to(tmp_path: Path) -> None:
    found = list(pupils(stage(tmp_path, PLAIN, MIXED)))
    assert [(pupil.settings.name, pupil.trained_on) for pupil in found] == [
        ("plain", "synthetic"),
        ("mixed", "mixed"),
        ("plain-seeds-only", "seeds"),
    ]


def test_mixed_rows_are_the_seeds_and_the_dataset_each_once(tmp_path: Path) -> None:
    run = stage(tmp_path, PLAIN, MIXED)
    seeds, dataset, mixed = (rows_of(run, name) for name in ("plain-seeds-only", "plain", "mixed"))
    assert (seeds.num_rows, dataset.num_rows) == (3, 5)
    assert mixed.to_pylist() == seeds.to_pylist() + dataset.to_pylist()
    assert len(set(mixed["id"].to_pylist())) == 8
    assert mixed["text"][0].as_py() == "seed 0.\nClaim: Its claim 0."
    assert mixed["text"][3].as_py() == "Text 0.\nClaim: Claim 0."
    assert len({rows_digest(table) for table in (seeds, dataset, mixed)}) == 3


def test_without_mixing_a_student_is_the_one_it_was(tmp_path: Path) -> None:
    run = stage(tmp_path, PLAIN)
    assert rows_of(run, "plain") == rows_of(stage(tmp_path, PLAIN, seeds=0), "plain")
    assert "mix_seeds" not in StudentSettings(**PLAIN).identity()
    assert StudentSettings(**PLAIN).identity() == StudentSettings(**MIXED).identity()
    # Manifests of students hold what is hashed from this: one that changes trains every student anew.
    assert digest(StudentSettings(name="s", preset="distilbert", base="b").identity()) == IDENTITY


def test_the_baseline_of_a_mixed_student_has_the_seeds_alone(tmp_path: Path) -> None:
    run = stage(tmp_path, MIXED)
    mixed, alone = pupils(run)
    assert (mixed.trained_on, alone.trained_on) == ("mixed", "seeds")
    assert (alone.settings.name, alone.settings.mix_seeds) == ("mixed-seeds-only", False)
    assert training_rows(run, alone).num_rows == 3


def test_mixing_without_seeds_is_refused_with_the_students_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^students: mixed: mix_seeds needs gold seeds; name them in"):
        list(pupils(stage(tmp_path, PLAIN, MIXED, seeds=0)))


def scored(folder: Path, monkeypatch: pytest.MonkeyPatch, *students: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the students of a run, each of which takes every test row for the first label."""
    run = stage(folder, *students)
    for pupil in pupils(run):
        report = {"rows": training_rows(run, pupil).num_rows, "seconds": 1.0}
        run.run.write(f"{pupil.key}/manifest.json", json.dumps({"report": report}).encode())
    monkeypatch.setattr(evaluate_module, "predict_on_cluster", lambda store, key, texts: first_label(texts))
    evaluate(run)
    return read_metrics(run.run)


def first_label(texts: list[str]) -> Any:
    import numpy as np

    return np.tile(np.array([0.9, 0.1], dtype=np.float32), (len(texts), 1))


def test_metrics_and_the_line_of_a_run_say_what_a_student_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = scored(tmp_path, monkeypatch, PLAIN, MIXED)
    told = {name: (each["trained_on"], each["rows"]) for name, each in metrics["students"].items()}
    assert told == {"plain": ("synthetic", 5), "mixed": ("mixed", 8), "plain-seeds-only": ("seeds", 3)}
    assert any("mixed" in line and line.endswith("(8 mixed rows)") for line in accuracies(metrics))


def test_a_report_without_a_purely_synthetic_student_speaks_of_the_mixed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = scored(tmp_path, monkeypatch, MIXED) | {"dataset": {"rows": 5}}
    scores = read_scores(metrics, LABELS)
    assert "A student trained on them and the seeds labels 50.0" in summary(metrics, scores)
    assert [(tile.name, tile.main) for tile in tiles(metrics, scores)][:2] == [
        ("Seeds mixed in", True),
        ("Seeds alone", False),
    ]
    assert "a student trained on the dataset" not in missing_parts({}, metrics, scores)


def test_the_purely_synthetic_student_stays_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = scored(tmp_path, monkeypatch, MIXED, PLAIN) | {"dataset": {"rows": 5}}
    scores = read_scores(metrics, LABELS)
    assert [score.name for score in scores] == ["plain", "mixed", "mixed-seeds-only"]
    assert "A student trained on them labels" in summary(metrics, scores)
    named = [(tile.name, tile.main) for tile in tiles(metrics, scores)]
    assert named[:2] == [("Student accuracy", True), ("Seeds mixed in", False)]
