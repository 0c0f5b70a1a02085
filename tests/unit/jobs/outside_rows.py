"""A dataset of another tool in every format, and a run without Ray that takes it in."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.lease import Lease
from cluster.progress import Progress
from cluster.rundir import read_metrics
from cluster.storage import LocalStore
from jobs.outside import take_in
from jobs.recipe import Recipe
from jobs.stage import Plan, Stage
from synth.task import Task, load_task

NAMES = ("World", "Sports")
TASK: dict[str, Any] = {
    "name": "news",
    "instruction": "Sort the news.",
    "labels": {"World": "world news", "Sports": "sports news"},
}
PAIRS = TASK | {"fields": ["text", "claim"], "columns": {"text": "premise", "claim": "hypothesis"}}
ROWS = [
    {"text": "A treaty is signed.", "label": "World"},
    {"text": "The cup is won, 2:1.", "label": "Sports"},
    {"text": "Elections in Spain", "label": "World"},
]
Row = dict[str, Any]


class Held(Lease):
    """A lease that nobody disputes."""

    def __init__(self) -> None:
        pass

    def renew(self, force: bool = False) -> None:
        pass


def stage(folder: Path, dataset: Row, task: Row = TASK) -> Stage:
    """Return a run that is to measure a dataset; its folder is `run` below the one given."""
    recipe = Recipe.model_validate({"run": "r", "task": task, "dataset": dataset, "metrics": None})
    assert isinstance(recipe.task, dict)
    store = LocalStore(folder / "run")
    plan = Plan(recipe, Task(load_task(recipe.task, folder).settings, ()), (), "")
    return Stage(plan, store, Progress(None), store, Held())


def taken(folder: Path, path: Path, task: Row = TASK, **dataset: Any) -> list[Row]:
    """Take a dataset into a run and return its rows, their labels by name."""
    run = stage(folder, {"path": str(path), **dataset}, task)
    assert run.recipe.dataset is not None
    take_in(run, run.recipe.dataset)
    rows = [
        row for part in sorted((folder / "run/data").iterdir()) for row in pq.read_table(part).to_pylist()
    ]
    return [row | {"label": NAMES[row["label"]]} for row in rows]


def told(folder: Path) -> Any:
    return read_metrics(LocalStore(folder / "run"))["dataset"]


def jsonl(path: Path, rows: Sequence[Row] = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def as_csv(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["label", "text"])
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def parquet(path: Path, names: Sequence[str] = NAMES, rows: Sequence[Row] = ROWS) -> Path:
    """Write rows as Hugging Face does: the label is a number, and the file says what it means."""
    path.parent.mkdir(parents=True, exist_ok=True)
    label = {"names": list(names), "_type": "ClassLabel"}
    features = {"text": {"dtype": "string", "_type": "Value"}, "label": label}
    texts, labels = [row["text"] for row in rows], [list(names).index(row["label"]) for row in rows]
    table = pa.table({"text": texts, "label": pa.array(labels, pa.int64())})
    described = {"huggingface": json.dumps({"info": {"features": features}})}
    pq.write_table(table.replace_schema_metadata(described), path)
    return path


def saved(path: Path) -> Path:
    """Save rows by `save_to_disk`, labels as numbers."""
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(NAMES))}
    )
    columns = {
        "text": [row["text"] for row in ROWS],
        "label": [NAMES.index(row["label"]) for row in ROWS],
    }
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(path))
    return path


def without_ids(rows: Sequence[Row]) -> list[Row]:
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]
