"""What the chaos tests share: a recipe for the scripted teacher, and a look into what a run left."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from cluster.ledger import read_ledger
from cluster.storage import LocalStore

LABELS = {"sports": "a sports event", "politics": "a political decision", "science": "a scientific finding"}


def write_recipe(folder: Path, run: str, rows: int, seeds: int = 0, **teacher: Any) -> Path:
    """Write a recipe in `folder` whose store is `folder/store`."""
    task: dict[str, Any] = {"name": "toy", "instruction": "Tell the topics apart.", "labels": LABELS}
    if seeds:
        lines = [
            {"text": f"seed {number} of {label}", "label": label}
            for label in LABELS
            for number in range(seeds)
        ]
        (folder / "seeds.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        task["seeds"] = str(folder / "seeds.jsonl")
    recipe = {
        "run": run,
        "store": str(folder / "store"),
        "task": task,
        "method": {"name": "fewgen", "shots": 1 if seeds else 0},
        "teacher": {"backend": "scripted", "refuse": 0.1, "empty": 0.05, "repeat": 0.05, "cut_off": 0.1}
        | teacher,
        "targets": {"rows_per_label": rows},
        "metrics": None,
    }
    path = folder / f"{run}.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def dataset(folder: Path, run: str) -> list[tuple[str, str, int]]:
    """Return (id, text, label) of every row of a run's dataset, in order."""
    table = pq.read_table(folder / "store" / run / "data")
    return list(zip(*(table[name].to_pylist() for name in ("id", "text", "label")), strict=True))


def item_parts(folder: Path, run: str) -> Counter[str]:
    """Count in how many parts of the ledger, as its readers see them, each item is."""
    store = LocalStore(folder / "store" / run)
    return Counter(item for table in read_ledger(store) for item in set(table["item_id"].to_pylist()))


def metrics(folder: Path, run: str) -> dict[str, Any]:
    """Return the run's metrics."""
    return dict(json.loads((folder / "store" / run / "metrics.json").read_text()))


def events(folder: Path, run: str, kind: str) -> list[dict[str, Any]]:
    """Return the run's events of one kind."""
    path = folder / "store" / run / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for line in lines if (event := json.loads(line))["event"] == kind]
