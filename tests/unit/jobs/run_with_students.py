"""A run that holds students without weights, and a corpus, for the verbs that use students."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cluster.storage import LocalStore
from synth.task import TaskSettings


def save(folder: Path, *labels: str, kind: str = "BertForSequenceClassification") -> Path:
    """Leave what tells of a student, without weights to speak of."""
    folder.mkdir(parents=True)
    config = {"architectures": [kind], "id2label": {str(i): label for i, label in enumerate(labels)}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(",".join(labels).encode())
    return folder


class Told:
    """Takes what a progress would show."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def live(self, kind: str, text: str, **_: Any) -> None:
        self.said.append(text)


def view(folder: Path, students: Mapping[str, Sequence[str]] | None = None, **task: Any) -> Any:
    """A run with students, by default `first` and `second`, and a task with the labels a and b."""
    settings = TaskSettings(name="t", instruction="Sort.", labels={"a": "an a", "b": "a b"}, **task)
    recipe = SimpleNamespace(run="r", corpus=None, students=(SimpleNamespace(name="second"),))
    root = LocalStore(folder / "runs")
    for name, labels in (students or {"first": "ab", "second": "ab"}).items():
        save(folder / "runs" / "r" / "students" / name, *labels)
    return SimpleNamespace(root=root, recipe=recipe, task=SimpleNamespace(settings=settings), progress=Told())


def corpus(folder: Path, *rows: dict[str, Any]) -> str:
    path = folder / "corpus.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)
