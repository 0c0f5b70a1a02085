"""The rows a student learns from: dataset, seeds, gold rows; its runs; and where the report says which."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError, SettingsError
from cluster.lease import Lease
from cluster.progress import Progress
from cluster.rundir import read_metrics
from cluster.settings import digest
from cluster.storage import LocalStore
from jobs import evaluate as evaluate_module
from jobs import train as train_module
from jobs import training_rows as rows_module
from jobs.evaluate import run as evaluate
from jobs.recipe import Recipe
from jobs.report.headline import missing_parts, summary, tiles
from jobs.report.scores import read_scores
from jobs.run import accuracies
from jobs.stage import Plan, Stage
from jobs.train import pupils
from jobs.train import run as train
from jobs.training_rows import training_rows
from synth.task import Gold, Task, load_task
from training.checks import checked_rows, rows_digest
from training.knowledge_settings import CartographySettings
from training.records import StudentReport
from training.settings import StudentSettings
from training.several import Wanted

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
    "metrics": None,
}
PLAIN = {"name": "plain", "base": "b"}
MIXED = {"name": "mixed", "base": "b", "rows": ["synthetic", "seeds"]}


class Held(Lease):
    """A lease that nobody disputes."""

    def __init__(self) -> None:
        pass

    def renew(self, force: bool = False) -> None:
        pass


def stage(folder: Path, *students: dict[str, Any], seeds: int = 3, gold: tuple[Gold, ...] = ()) -> Stage:
    """Return a run with a dataset of five rows in two files, so many seeds, and gold training rows."""
    recipe = Recipe.model_validate(RECIPE | {"students": list(students)})
    assert isinstance(recipe.task, dict)
    task = Task(load_task(recipe.task, folder).settings, tuple(_gold("seed", n) for n in range(seeds)))
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
    plan = Plan(recipe, task, tuple(_gold("test", number) for number in range(4)), "", train=gold)
    return Stage(plan, store, Progress(None), store, Held())


def _gold(kind: str, number: int) -> Gold:
    fields = {"text": f"{kind} {number}.", "claim": f"Its claim {number}."}
    return Gold(digest([kind, number])[:16], fields, LABELS[number % 2])


def rows_of(stage: Stage, name: str) -> pa.Table:
    (pupil,) = (each for each in pupils(stage) if each.settings.name == name)
    return checked_rows(training_rows(stage, pupil.settings), stage.task.labels, name)


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
    assert StudentSettings(**PLAIN).identity() == StudentSettings.model_validate(MIXED).identity()


def test_the_baseline_of_a_mixed_student_has_the_seeds_alone(tmp_path: Path) -> None:
    run = stage(tmp_path, MIXED)
    mixed, alone = pupils(run)
    assert (mixed.trained_on, alone.trained_on) == ("mixed", "seeds")
    assert (alone.settings.name, alone.settings.rows.sources) == ("mixed-seeds-only", ("seeds",))
    assert training_rows(run, alone.settings).num_rows == 3


def test_a_student_of_seeds_needs_no_baseline_of_seeds(tmp_path: Path) -> None:
    assert [each.trained_on for each in pupils(stage(tmp_path, PLAIN | {"rows": "seeds"}))] == ["seeds"]


def test_rows_that_the_task_does_not_have_are_refused_with_the_students_name(tmp_path: Path) -> None:
    with pytest.raises(
        SettingsError, match=r"^students: mixed: rows takes seeds; name them in task.seeds or"
    ):
        list(pupils(stage(tmp_path, PLAIN, MIXED, seeds=0)))
    with pytest.raises(SettingsError, match=r"^students: plain: rows takes gold; name them in task.train or"):
        list(pupils(stage(tmp_path, PLAIN | {"rows": "gold"})))


GOLD = tuple(_gold("gold", number) for number in range(40))


def test_a_share_is_drawn_from_each_label_and_is_the_same_again(tmp_path: Path) -> None:
    student = PLAIN | {"rows": {"synthetic": 1, "gold": 0.25}}
    rows = rows_of(stage(tmp_path, student, gold=GOLD), "plain")
    drawn = rows.slice(0, 10)
    assert rows.num_rows == 15
    assert Counter(drawn["label"].to_pylist()) == {"entailment": 5, "neutral": 5}
    order = [row.id for row in GOLD]
    assert [order.index(each) for each in drawn["id"].to_pylist()] == sorted(
        order.index(each) for each in drawn["id"].to_pylist()
    )
    assert rows == rows_of(stage(tmp_path, student | {"seed": 5}, gold=GOLD), "plain")
    other = rows_of(stage(tmp_path, PLAIN | {"rows": {"gold": 0.25, "draw_seed": 1}}, gold=GOLD), "plain")
    assert set(other["id"].to_pylist()) != set(drawn["id"].to_pylist())


def test_gold_rows_that_are_test_rows_or_seeds_are_left_out(tmp_path: Path) -> None:
    gold = (*GOLD[:4], _gold("test", 0), _gold("seed", 1))
    run = stage(tmp_path, PLAIN | {"rows": "gold"}, MIXED | {"rows": ["seeds", "gold"]}, gold=gold)
    assert rows_of(run, "plain").num_rows == 5
    assert len(set(rows_of(run, "mixed")["id"].to_pylist())) == rows_of(run, "mixed").num_rows == 7
    alone = stage(tmp_path, PLAIN | {"rows": "gold"}, gold=(_gold("test", 1),))
    with pytest.raises(DataError, match="all rows are test rows or seeds too"):
        rows_of(alone, "plain")


def test_weights_of_the_dataset_are_passed_on_and_gold_rows_count_one(tmp_path: Path) -> None:
    run = stage(tmp_path, PLAIN, MIXED)
    assert "weight" not in rows_of(run, "mixed").column_names
    for key in run.run.list("data"):
        table = pq.read_table(tmp_path / key)
        pq.write_table(table.append_column("weight", pa.array([0.25] * len(table))), tmp_path / key)
    assert rows_of(run, "mixed")["weight"].to_pylist() == [1.0] * 3 + [0.25] * 5
    assert rows_of(run, "plain")["weight"].to_pylist() == [0.25] * 5


def test_rows_of_several_labels_are_passed_on_and_all_others_with_them(tmp_path: Path) -> None:
    run = stage(tmp_path, MIXED)
    for key in run.run.list("data"):
        table = pq.read_table(tmp_path / key)
        several = pa.array([[label, 1] if label == 0 else [] for label in table["label"].to_pylist()])
        pq.write_table(table.set_column(2, "label", several), tmp_path / key)
    rows = rows_of(run, "mixed")
    assert rows["label"].to_pylist()[:4] == [["entailment"], ["neutral"], ["entailment"], LABELS]
    assert rows["label"].to_pylist()[4] == []
    assert rows_of(run, "mixed-seeds-only")["label"].to_pylist()[0] == ["entailment"]


def test_gold_rows_of_several_labels_make_all_rows_such(tmp_path: Path) -> None:
    both = Gold("both", {"text": "x", "claim": "y"}, "entailment", ("neutral",))
    run = stage(tmp_path, PLAIN | {"rows": ["synthetic", "gold"]}, gold=(both,))
    assert rows_of(run, "plain")["label"].to_pylist()[:2] == [LABELS, ["entailment"]]


def test_cartography_keeps_its_rows_of_the_dataset_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(stage: Stage, dataset: pa.Table, settings: object) -> pa.Table:
        kept = pa.array([place < 2 for place in range(len(dataset))])
        return pa.table({"id": dataset["id"], "kept": kept})

    monkeypatch.setattr(rows_module, "drawn_map", drawn)
    run = stage(tmp_path, MIXED | {"cartography": True}, PLAIN)
    run = replace(
        run,
        plan=replace(
            run.plan,
            recipe=run.recipe.model_copy(update={"cartography": CartographySettings(preset="paper")}),
        ),
    )
    assert (rows_of(run, "mixed").num_rows, rows_of(run, "plain").num_rows) == (5, 5)
    assert rows_of(run, "mixed")["text"][4].as_py() == "Text 1.\nClaim: Claim 1."


def test_runs_differ_in_seed_and_folder_and_the_first_is_the_student(tmp_path: Path) -> None:
    (pupil,) = pupils(stage(tmp_path, PLAIN | {"runs": 3, "seed": 7}, seeds=0))
    first, again = pupil.runs(again=False), pupil.runs(again=True)
    assert [key for _, key in first] == [
        "students/plain",
        "student-runs/plain/run-1",
        "student-runs/plain/run-2",
    ]
    assert [settings.seed for settings, _ in first] == [7, 8, 9]
    assert [settings.seed for settings, _ in again] == [10, 11, 12]
    assert first[0][0].identity() == StudentSettings(**PLAIN, seed=7).identity()


def scored(folder: Path, monkeypatch: pytest.MonkeyPatch, *students: dict[str, Any]) -> dict[str, Any]:
    """Evaluate the students of a run, each of which takes every test row for the first label."""
    run = stage(folder, *students)
    for pupil in pupils(run):
        rows = training_rows(run, pupil.settings).num_rows
        report = {"rows": rows, "seconds": 1.0, "base": "b", "revision": "r"}
        run.run.write(f"{pupil.key}/manifest.json", json.dumps({"report": report}).encode())
    monkeypatch.setattr(evaluate_module, "predict_on_cluster", lambda store, key, texts: first_label(texts))
    evaluate(run)
    return read_metrics(run.run)


def first_label(texts: list[str]) -> Any:
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


class Classroom:
    """Trains nothing: students whose accuracy is given by their seed."""

    def __init__(self, right: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.right = right
        self.trained: list[tuple[str, int]] = []
        self.seeds: dict[str, int] = {}
        monkeypatch.setattr(train_module, "train_all", self.train_all)
        monkeypatch.setattr(evaluate_module, "predict_on_cluster", self.predict)

    def train_all(
        self, wanted: Sequence[Wanted], labels: Sequence[str], store: LocalStore, at_once: int | None
    ) -> Iterator[StudentReport]:
        for each in wanted:
            seed, rows = each.settings.seed, each.rows.num_rows
            self.trained.append((each.key, seed))
            self.seeds[each.key] = seed
            report = StudentReport(each.settings.name, str(seed), "b", "r", rows, 1, 1, (0.1,), 1.0, 1.0, 0)
            store.write(f"{each.key}/manifest.json", json.dumps({"report": asdict(report)}).encode())
            yield report

    def predict(self, store: LocalStore, key: str, texts: list[str]) -> Any:
        """Take so many of the four test rows, which alternate, for what they are."""
        right = self.right[self.seeds[key]]
        places = [number % 2 if number < right else 1 - number % 2 for number in range(len(texts))]
        return np.eye(2, dtype=np.float32)[places]


def test_runs_are_told_with_mean_and_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Classroom({0: 3, 1: 4, 2: 2}, monkeypatch)
    run = stage(tmp_path, PLAIN | {"runs": 3, "rerun_spread": None}, seeds=0)
    train(run)
    evaluate(run)
    metrics = read_metrics(run.run)
    told = metrics["students"]["plain"]
    assert (told["accuracy"], told["runs"]["accuracies"], told["runs"]["seeds"]) == (
        0.75,
        [0.75, 1.0, 0.5],
        [0, 1, 2],
    )
    assert (told["runs"]["mean"], told["runs"]["std"]) == (0.75, 0.25)
    assert len(room.trained) == 3
    assert any("75.0%  75.0% ± 25.0 in 3 runs  (5 synthetic rows)" in line for line in accuracies(metrics))
    assert "mean ± standard deviation" not in summary(metrics | {"dataset": {"rows": 5}}, [])


def test_runs_that_are_too_far_apart_are_trained_anew_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Classroom({0: 1, 1: 4, 2: 1, 3: 4}, monkeypatch)
    run = stage(tmp_path, PLAIN | {"runs": 2}, seeds=0)
    train(run)
    evaluate(run)
    told = read_metrics(run.run)["students"]["plain"]
    # The second runs are as far apart, but there is no third time.
    assert [seed for _, seed in room.trained] == [0, 1, 2, 3]
    assert (told["runs"]["first"], told["runs"]["accuracies"]) == ([0.25, 1.0], [0.25, 1.0])
    assert told["runs"]["seeds"] == [2, 3]
    # The same command again asks for the runs that count, and not for those that were given up.
    train(run)
    evaluate(run)
    assert [seed for _, seed in room.trained[4:]] == [2, 3]
    assert read_metrics(run.run)["students"]["plain"] == told


def test_other_rows_forget_that_runs_were_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Classroom({0: 1, 1: 4, 2: 4, 3: 4}, monkeypatch)
    run = stage(tmp_path, PLAIN | {"runs": 2}, seeds=0)
    train(run)
    evaluate(run)
    pq.write_table(
        pq.read_table(tmp_path / run.run.list("data")[0]).slice(1), tmp_path / run.run.list("data")[0]
    )
    train(run)
    assert [seed for _, seed in room.trained] == [0, 1, 2, 3, 0, 1]


def test_a_student_of_another_task_is_not_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Classroom({0: 3}, monkeypatch)
    run = stage(tmp_path, PLAIN, seeds=0)
    train(run)
    run.run.write("students/plain/metrics.json", json.dumps({"labels": ["neutral", "entailment"]}).encode())
    with pytest.raises(DataError, match=r"was trained for the labels neutral, entailment; the task has ent"):
        evaluate(run)


def test_several_labels_are_scored_as_such_and_absent_ones_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Classroom({0: 4}, monkeypatch)
    run = stage(tmp_path, PLAIN, seeds=0)
    both = Gold("both", {"text": "x", "claim": "y"}, "entailment", ("neutral",))
    run = replace(run, plan=replace(run.plan, test=(*run.plan.test, both)))
    train(run)
    evaluate(run)
    metrics = read_metrics(run.run)
    told = metrics["students"]["plain"]
    assert (told["accuracy"], told["several_labels"], told["confusion"]) == (0.8, True, [])
    assert told["per_label"]["entailment"]["recall"] == pytest.approx(2 / 3)
    assert metrics["baselines"]["majority"]["accuracy"] == 0.4
    alone = stage(tmp_path, PLAIN, seeds=0)
    evaluate(replace(alone, plan=replace(alone.plan, test=(_gold("test", 1),))))
    assert read_metrics(run.run)["students"]["plain"]["absent_labels"] == ["entailment"]


def test_missing_packages_are_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = Classroom({}, monkeypatch)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="students: plain: onnx needs onnx and onnxscript"):
        train(stage(tmp_path, PLAIN | {"onnx": True}, seeds=0))
    assert room.trained == []
