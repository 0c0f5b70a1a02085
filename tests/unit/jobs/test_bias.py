"""What is told of bound terms after rephrasing: before, of the same rows, and after."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.lease import acquire
from cluster.progress import Progress
from cluster.rundir import read_metrics
from cluster.storage import LocalStore
from jobs.bias import measure_bias
from jobs.recipe import Recipe
from jobs.stage import Plan, Stage
from synth.columns import dataset_table
from synth.method import Method
from synth.preparation import commit_sources
from synth.records import Author
from synth.rows import as_batch, ledger_schema, settled_rows
from synth.task import load_task
from tests.unit.synth.method_desk import Teacher, planned, prepared, worked

YES = [f"is number {n} ever a prime of the field" for n in range(10)]
NO = [f"is number {n} only a prime of the field" for n in range(10)]
TASK = {"name": "t", "instruction": "Is it so?", "labels": {"yes": "it is", "no": "it is not"}}


def stage_of(folder: Path, method: dict[str, Any], stream: io.StringIO) -> Stage:
    rows = [(text, label) for label, texts in (("yes", YES), ("no", NO)) for text in texts]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    given = {"name": "rephrase", "rows": str(path)} | method
    recipe = Recipe.model_validate(
        {
            "run": "r",
            "task": TASK,
            "method": given,
            "teacher": {"backend": "scripted"},
            "targets": {"rows": 20},
        }
    )
    store = LocalStore(folder / "run")
    task = load_task(TASK, folder)
    return Stage(Plan(recipe, task, (), ""), store, Progress(store, stream), store, acquire(store))


def write(stage: Stage, method: Method, replies: list[str], items: int) -> None:
    """Leave sources and a dataset as a run does whose teacher gives these replies in turn."""
    teacher = Teacher(lambda _: replies.pop(0))
    sources = prepared(method, teacher)
    commit_sources(stage.run, sources)
    author = Author("rephrase", "t", "r")
    made = [
        (item.id, settled_rows(item, worked(method, item, teacher), [], author, "text"))
        for item in planned(method, items, sources)
    ]
    batch, _, _ = as_batch(made, ledger_schema(("text",)))
    table = dataset_table(pa.table(batch), ("text",), list(stage.task.labels), True)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    stage.run.write("data/train-00000-of-00001.parquet", sink.getvalue())


def test_before_and_after_are_recorded_and_told(tmp_path: Path) -> None:
    stream = io.StringIO()
    stage = stage_of(tmp_path, {"unmended": "keep", "attempts": 1}, stream)
    # Of ten questions for no, two are left as they were.
    replies = [f"is number {n} {'only ' if n % 2 and n > 15 else ''}of the prime field" for n in range(20)]
    write(stage, stage.recipe.method.build(stage.task), replies, 20)
    measure_bias(stage)
    told = read_metrics(stage.run)["bound_terms"]
    first = [("ever", "yes"), ("only", "no")]
    assert {part: named(each["bound"]) for part, each in told.items()} == {
        "given": first,
        "before": first,
        "after": [],
    }
    assert all(named(each["to_go"]) == first for each in told.values())
    assert [(each["rows"], each["carrying"]) for each in told.values()] == [(20, 20), (20, 20), (20, 2)]
    was, now = told["before"]["to_go"][1], told["after"]["to_go"][1]
    assert (was["inside"], was["outside"], now["inside"], now["outside"]) == (10, 0, 2, 0)
    assert was["p"] < 0.001 < now["p"]
    line = stream.getvalue().splitlines()[-1]
    assert (
        "Bound terms: 2, in 20 of 20 rows given; of the dataset's 20, 20 had one and 2 have; 2 were" in line
    )
    event = json.loads(stage.run.read("events.jsonl").splitlines()[-1])
    assert event["after"] == {"rows": 20, "carrying": 2, "bound": 0}


def named(terms: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each["term"], each["label"]) for each in terms]


def test_a_dataset_of_few_rows_is_held_against_what_they_were(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, {}, io.StringIO())
    write(stage, stage.recipe.method.build(stage.task), ["is number one of the field prime"] * 4, 4)
    measure_bias(stage)
    told = read_metrics(stage.run)["bound_terms"]
    # Four rows show nothing, whatever is in them: that nothing is bound any more says nothing here.
    assert [len(each["bound"]) for each in told.values()] == [2, 0, 0]
    assert [(each["rows"], each["carrying"]) for each in told.values()] == [(20, 20), (4, 4), (4, 0)]


def test_terms_that_were_given_are_counted_where_they_still_stand(tmp_path: Path) -> None:
    stage = stage_of(tmp_path, {"terms": {"no": ["only", "absent"]}}, io.StringIO())
    write(stage, stage.recipe.method.build(stage.task), ["is number one of the field prime"] * 10, 20)
    measure_bias(stage)
    told = read_metrics(stage.run)["bound_terms"]
    assert [(len(each["bound"]), each["carrying"]) for each in told.values()] == [(1, 10), (1, 10), (0, 0)]


@pytest.mark.parametrize("method", [{"name": "fewgen"}])
def test_other_methods_leave_no_such_metric(method: dict[str, Any], tmp_path: Path) -> None:
    stage = stage_of(tmp_path, {}, io.StringIO())
    other = Recipe.model_validate(stage.recipe.model_dump() | {"method": method})
    measure_bias(Stage(Plan(other, stage.task, (), ""), stage.root, stage.progress, stage.run, stage.lease))
    assert "bound_terms" not in read_metrics(stage.run)
