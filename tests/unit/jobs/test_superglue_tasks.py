"""The shipped SuperGLUE tasks: they load, describe every field, and read the gold files as they are."""

from pathlib import Path

import pytest

from cluster.jsonl import read_jsonl
from synth.fields import described
from synth.methods.targen import TarGENSettings
from synth.prompting import as_text
from synth.records import make_item
from synth.task import Task, load_task, load_test

ROOT = Path(__file__).parents[3]
TASKS = ROOT / "jobs" / "recipes" / "tasks" / "superglue"
GOLD = ROOT.parent / "shared" / "data"
NAMES = ("axg", "boolq", "cb", "copa", "record", "rte", "wic", "wsc")
ROWS = {"boolq": 2000, "cb": 250, "copa": 400, "rte": 2485, "wic": 1999, "wsc": 2632}
MAIN = {
    "boolq": "passage",
    "cb": "premise",
    "copa": "premise",
    "rte": "premise",
    "wic": "sentence1",
    "wsc": "sentence",
}
LABELS = {
    "axg": ("entailment", "not_entailment"),
    "boolq": ("yes", "no"),
    "cb": ("entailment", "contradiction", "neutral"),
    "copa": ("choice1", "choice2"),
    "record": ("correct", "incorrect"),
    "rte": ("entailment", "not_entailment"),
    "wic": ("same_sense", "different_sense"),
    "wsc": ("yes", "no"),
}


def load(name: str) -> Task:
    return load_task(TASKS / f"{name}.yaml", ROOT)


def test_there_are_the_eight_tasks_of_the_paper() -> None:
    assert sorted(path.stem for path in TASKS.glob("*.yaml")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_task_describes_its_labels_and_fields(name: str) -> None:
    task = load(name)
    assert task.labels == LABELS[name]
    assert set(task.settings.field_types) == set(task.settings.fields) and len(task.settings.fields) > 1
    assert len(described(task).splitlines()) == len(task.settings.fields)
    given = {"context": "a harbour", "seed_sentence": "A ship came in."}
    method = TarGENSettings().build(task)
    prompt = as_text(method.prompt(make_item("k", 0, 0, task.labels[:1], attributes=given)))  # type: ignore[attr-defined]
    for part in (*task.settings.field_types.values(), task.verbalizer(task.labels[0]), "A ship came in."):
        assert part in prompt
    assert len(prompt.split()) < 350


@pytest.mark.parametrize("name", sorted(ROWS))
def test_gold_files_are_read_as_they_are(name: str) -> None:
    folder = GOLD / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: the gold rows of SuperGLUE are not shipped")
    files = {
        part: str(folder / f"{split}.jsonl.zst") for part, split in (("seeds", "train"), ("test", "test"))
    }
    task = load_task({"file": str(TASKS / f"{name}.yaml"), **files}, ROOT)
    assert ROWS[name] * 0.97 < len(task.seeds) <= ROWS[name]
    test = load_test(task)
    for rows in (task.seeds, test):
        assert {row.label for row in rows} == set(task.labels)
    # The files' own `text` joins all parts; the main field is the first of them.
    _, row = next(iter(read_jsonl(Path(files["seeds"]))))
    assert task.seeds[0].text == row[MAIN[name]].strip() != row["text"].strip()
