"""What a run is asked about its rows, from whose gold rows, and how the report shows the answers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.lease import Lease
from cluster.progress import Progress
from cluster.rundir import update_metrics
from cluster.settings import digest
from cluster.storage import LocalStore
from jobs import knowledge as module
from jobs.knowledge import knowledge
from jobs.recipe import Recipe
from jobs.report.datamap import MOST_POINTS, read_knowledge
from jobs.report.page import write_report
from jobs.stage import Plan, Stage
from synth.task import Gold, Task, load_task
from training.cartography import MAP, data_map, map_summary
from training.knowledge_settings import CartographySettings
from training.metrics.oracle import Oracle, Trial

LABELS = ["yes", "no"]
EVIL = "<script>alert(1)</script>"
RECIPE: dict[str, Any] = {
    "run": "r",
    "task": {"name": "t", "instruction": "?", "labels": {"yes": "it is", "no": "it is not"}},
    "method": {"name": "zerogen"},
    "teacher": {"backend": "scripted"},
    "targets": {"rows_per_label": 2},
}
ORACLE = {"oracle": {"student": {"base": "b"}}}
INFORMATION = {"information": {"student": {"base": "b"}}}


class Held(Lease):
    """A lease that nobody disputes."""

    def __init__(self) -> None:
        pass

    def renew(self, force: bool = False) -> None:
        pass


def gold(kind: str, rows: int) -> tuple[Gold, ...]:
    return tuple(Gold(digest([kind, n])[:16], {"text": f"{kind} {n}"}, LABELS[n % 2]) for n in range(rows))


def stage(
    folder: Path, asked: dict[str, Any], seeds: int = 0, train: tuple[Gold, ...] = (), test: int = 0
) -> Stage:
    """Return a run whose dataset has six rows, and so many gold ones."""
    recipe = Recipe.model_validate(RECIPE | asked)
    assert isinstance(recipe.task, dict)
    task = Task(load_task(recipe.task, folder).settings, gold("seed", seeds))
    (folder / "data").mkdir(exist_ok=True)
    rows = {
        "text": [f"Text {n} {EVIL}" for n in range(6)],
        "label": pa.array([n % 2 for n in range(6)], pa.int64()),
        "id": [f"row{n}" for n in range(6)],
    }
    pq.write_table(pa.table(rows), folder / "data/train-00000-of-00001.parquet")
    store = LocalStore(folder)
    plan = Plan(recipe, task, gold("test", test), "", train=train)
    return Stage(plan, store, Progress(None), store, Held())


def test_nothing_is_looked_at_when_nothing_is_asked(tmp_path: Path) -> None:
    run = stage(tmp_path, {})
    (tmp_path / "data/train-00000-of-00001.parquet").unlink()
    assert knowledge(run) == {}


@pytest.mark.parametrize(
    ("asked", "given", "reason"),
    [
        (ORACLE, {}, "names no gold training rows (task.train), and of the seeds one label has only 0"),
        (ORACLE, {"seeds": 30}, "one label has only 15, fewer than 20 (oracle.least_seeds)"),
        (INFORMATION, {}, "names no gold test rows (task.test)"),
        ({"information": {"rows": "gold", "student": {"base": "b"}}}, {"test": 4}, "(task.train)"),
        (
            {"oracle": {"preset": "published_code", "student": {"base": "b"}}},
            {"train": gold("train", 9)},
            "oracle.choose is test",
        ),
    ],
)
def test_without_gold_rows_there_is_a_reason_and_no_number(
    tmp_path: Path, asked: dict[str, Any], given: dict[str, Any], reason: str
) -> None:
    (answer,) = knowledge(stage(tmp_path, asked, **given)).values()
    assert isinstance(answer, str)
    assert answer.startswith("not computed, because")
    assert reason in answer


class Judge:
    """Stands for the search and its model, which takes every row for the first label."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gold: list[str] = []
        self.predictions = 0
        monkeypatch.setattr(module, "train_oracle", self.train)
        monkeypatch.setattr(module, "predict_on_cluster", self.predict)

    def train(self, rows: pa.Table, test: Any, labels: Any, settings: Any, store: Any) -> Oracle:
        self.gold = rows["text"].to_pylist()
        trial = Trial("final-0", 1e-5, 8, 0, 0.9, 0.3)
        return Oracle("oracle/final-0", (trial,), (trial,), trial, 40, 10, 0)

    def predict(self, store: Any, key: str, texts: list[str]) -> Any:
        self.predictions += 1
        return np.tile(np.array([0.9, 0.1], dtype=np.float32), (len(texts), 1))


def test_the_oracle_learns_from_gold_rows_that_are_not_tested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = Judge(monkeypatch)
    run = stage(tmp_path, ORACLE, train=(*gold("train", 3), *gold("test", 2)), test=2, seeds=50)
    answer = knowledge(run)["oracle"]
    assert isinstance(answer, dict)
    assert judge.gold == ["train 0", "train 1", "train 2"]
    assert (answer["preserved"], answer["gold"]) == (0.5, "gold training rows")
    others = pq.read_table(run.run.fetch("label_preservation.parquet")).to_pylist()
    assert [row["id"] for row in others] == ["row1", "row3", "row5"]
    assert {row["predicted"] for row in others} == {"yes"}

    update_metrics(run.run, knowledge={"oracle": answer})
    assert knowledge(run)["oracle"] == json.loads(json.dumps(answer))
    assert judge.predictions == 1
    knowledge(stage(tmp_path, ORACLE, seeds=40))
    assert judge.gold == [f"seed {n}" for n in range(40)]


def mapped(rows: int = 6) -> tuple[pa.Table, CartographySettings]:
    """Return a map of rows of which the first is never right and the last always."""
    settings = CartographySettings.model_validate({"student": {"base": "b"}, "fraction": 0.5})
    random = np.random.default_rng(0)
    epochs = []
    for epoch in range(1, 5):
        probability = np.clip(np.linspace(0, 1, rows) + random.normal(0, 0.1, rows), 0.01, 0.99)
        epochs.append(
            pa.table(
                {
                    "id": [f"row{n}" for n in range(rows)],
                    "label": [LABELS[n % 2] for n in range(rows)],
                    "epoch": pa.array([epoch] * rows, pa.int32()),
                    "probability": pa.array(probability, pa.float32()),
                    "correct": probability > 0.5,
                }
            )
        )
    return data_map(pa.concat_tables(epochs), settings), settings


def test_the_report_draws_the_map_and_tells_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Judge(monkeypatch)
    run = stage(tmp_path, ORACLE, train=gold("train", 9))
    table, settings = mapped()
    pq.write_table(table, tmp_path / MAP)
    answers = knowledge(run) | {
        "cartography": map_summary(table, settings),
        "information": "not computed, because the task names no gold test rows (task.test)",
    }
    update_metrics(run.run, knowledge=answers, task={"labels": {"yes": "", "no": ""}})
    write_report(run.run)
    page = (tmp_path / "report.html").read_text()
    assert page.count('<use xlink:href="#datamap-') >= 6
    assert "by variability: 3 of 6 rows" in " ".join(page.replace("\n", " ").split()).replace("\u00a0", " ")
    assert "takes 50.0\u00a0% of 6 rows" in page
    assert "V-information: not computed, because the task names no gold test rows" in page
    assert "Text 0 &lt;script&gt;" in page
    assert EVIL not in page
    for words in ("easy to learn", "hard to learn", "ambiguous", "never right", "dropped"):
        assert f">{words}<" in page, words


def test_the_report_of_a_run_that_asked_nothing_has_no_such_section(tmp_path: Path) -> None:
    run = stage(tmp_path, {})
    write_report(run.run)
    assert 'id="knowledge"' not in (tmp_path / "report.html").read_text()


def test_of_many_rows_a_sample_is_drawn_always_the_same(tmp_path: Path) -> None:
    pq.write_table(mapped(MOST_POINTS + 500)[0], tmp_path / MAP)
    first, again = (read_knowledge(LocalStore(tmp_path), {}) for _ in range(2))
    assert first.drawn == MOST_POINTS
    assert first.chart == again.chart
    assert len(first.hardest) == 6
    assert first.chart is not None
    assert len(first.chart) < 400_000
