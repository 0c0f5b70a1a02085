"""Methods, rows of another tool, and what they are held against: compared whole, resumed, in trouble."""

import json
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from jobs.cli import main
from tests.chaos.runs import LABELS, events, item_parts, metrics
from tests.tiny_encoder import save_tiny_encoder

pytestmark = [pytest.mark.usefixtures("ray_local"), pytest.mark.timeout(900)]
STUDENT = {
    "name": "small",
    "runs": 2,
    "rerun_spread": None,
    "epochs": 1,
    "batch_size": 8,
    "max_tokens": 16,
}
RUNS = ("c-toy-few", "c-toy-baselines")


def gold(folder: Path, name: str, per_label: int, labels: tuple[str, ...] = tuple(LABELS)) -> str:
    rows = [
        {"text": f"{name} row {number} tells of {LABELS.get(label, label)}", "label": label}
        for number in range(per_label)
        for label in labels
    ]
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def written(folder: Path, **changes: Any) -> Path:
    """A comparison of two methods on one task with seeds, gold training rows and gold test rows."""
    task = {"name": "toy", "instruction": "Tell the topics apart.", "labels": LABELS}
    files = {name: gold(folder, name, 4) for name in ("seeds", "train", "test")}
    data = {
        "comparison": "c",
        "store": str(folder / "store"),
        "rows_per_label": 3,
        "base": {"teacher": {"backend": "scripted"}, "metrics": None, "students": []},
        "tasks": {"toy": {"task": task | files}},
        "methods": {
            "few": {"method": {"name": "fewgen", "shots": 1}},
            "simple": {"method": {"name": "simprompt"}},
        },
        "teacher": {"shots": [0, 2], "rows": 10},
    }
    path = folder / "comparison.yaml"
    path.write_text(yaml.safe_dump(data | changes, sort_keys=False))
    return path


def compare(path: Path) -> tuple[int, str]:
    """Run a comparison in this process, on the Ray that the session shares."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(main, ["compare", str(path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stderr


def result(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "store/c/comparison.json").read_text()))


def entries(folder: Path) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in result(folder)["tasks"]["toy"]["entries"]}


@dataclass(frozen=True, slots=True)
class Done:
    """A comparison that was made once."""

    path: Path
    code: int
    said: str

    @property
    def folder(self) -> Path:
        return self.path.parent


@pytest.fixture(scope="module")
def done(ray_local: str, tmp_path_factory: pytest.TempPathFactory) -> Done:
    folder = tmp_path_factory.mktemp("compared")
    students = [STUDENT | {"base": save_tiny_encoder(folder / "encoder")}]
    base = {"teacher": {"backend": "scripted"}, "metrics": None, "students": students}
    # Each training takes Ray many seconds: another method, or seeds alone, are as these.
    methods = {"few": {"method": {"name": "fewgen", "shots": 1}}}
    path = written(folder, base=base, methods=methods, seeds=False)
    return Done(path, *compare(path))


def test_every_method_and_baseline_has_an_entry_with_both_runs(done: Done) -> None:
    assert done.code == 0, done.said
    found = entries(done.folder)
    assert {name: entry["kind"] for name, entry in found.items()} == {
        "few": "method",
        "gold": "gold",
        "majority class": "majority",
        "teacher, zero-shot": "teacher",
        "teacher, 2 shots": "teacher",
    }
    assert not any(entry["failed"] for entry in found.values())
    for name in ("few", "gold"):
        scores = found[name]["students"]["small"]
        assert len(scores["accuracies"]) == 2 and scores["std"] is not None
        assert scores["mean"] == pytest.approx(sum(scores["accuracies"]) / 2)
    facts = found["few"]["facts"]
    assert (facts["rows"], facts["target"]) == (9, 9)
    assert facts["tokens_per_row"] > 0 and facts["accepted"] >= 9
    assert facts["quality"] == {}
    assert metrics(done.folder, "c-toy-few")["dataset"]["per_label"] == dict.fromkeys(LABELS, 3)
    assert found["gold"]["facts"]["rows"] == 12
    assert found["majority class"]["students"][""]["mean"] == pytest.approx(1 / 3)
    asked = found["teacher, 2 shots"]
    assert asked["facts"]["asked"] == 10 and 0 <= asked["students"][""]["mean"] <= 1


def test_pairs_are_compared_on_the_rows_that_both_labelled(done: Done) -> None:
    pairs = result(done.folder)["tasks"]["toy"]["significance"]["small"]
    named = {frozenset((pair["one"], pair["other"])): pair for pair in pairs}
    # Two with students and the teacher, asked twice.
    assert len(pairs) == len(named) == 4 * 3 / 2
    assert named[frozenset(("few", "gold"))]["rows"] == 12
    assert named[frozenset(("gold", "teacher, zero-shot"))]["rows"] == 10
    means = {name: entry["students"]["small"]["mean"] for name, entry in entries(done.folder).items()
             if "small" in entry["students"]}  # fmt: skip
    for pair in pairs:
        assert pair["low"] <= pair["points"] <= pair["high"]
        assert 0 < pair["p"] <= pair["p_corrected"] <= 1
        if pair["one"] in means and pair["other"] in means:
            assert pair["points"] == pytest.approx(means[pair["one"]] - means[pair["other"]])


def test_the_page_and_the_table_show_it(done: Done) -> None:
    html = (done.folder / "store/c/comparison.html").read_text()
    assert result(done.folder)["equal"] == {"rows_per_label": 3, "tokens": None}
    for name in entries(done.folder):
        assert f"<td>{name}</td>" in html
        assert name in done.said
    assert "3 accepted rows of each label for each method" in html
    assert "Comparison c: 3 accepted rows" in done.said and "toy, 12 gold test rows:" in done.said
    assert "differences more than luck" in done.said


def test_baselines_learn_from_no_synthetic_row(done: Done) -> None:
    told = metrics(done.folder, "c-toy-baselines")
    assert {name: each["trained_on"] for name, each in told["students"].items()} == {"gold-small": "gold"}
    assert not (done.folder / "store/c-toy-baselines/data").exists()
    assert {name for name in metrics(done.folder, "c-toy-few")["students"]} == {"small"}


def test_the_same_command_finds_all_of_it_made(done: Done) -> None:
    folder = done.folder
    before = {run: (item_parts(folder, run), trained(folder, run)) for run in RUNS}
    asked = sorted((folder / "store/c-toy-baselines").rglob("ledger/*"))
    content = (folder / "store/c/comparison.json").read_bytes()
    assert {run: trainings for run, (_, trainings) in before.items()} == dict.fromkeys(RUNS, 2)
    assert asked
    code, said = compare(done.path)
    assert code == 0
    assert {run: (item_parts(folder, run), trained(folder, run)) for run in RUNS} == before
    assert sorted((folder / "store/c-toy-baselines").rglob("ledger/*")) == asked
    assert (folder / "store/c/comparison.json").read_bytes() == content
    assert table(said) == table(done.said)


def trained(folder: Path, run: str) -> int:
    """Count the trainings of a run that were not found done."""
    return sum(not event["reused"] for event in events(folder, run, "trained"))


def table(said: str) -> list[str]:
    lines = said.splitlines()
    (start,) = (place for place, line in enumerate(lines) if line.startswith("Comparison c: "))
    return lines[start:]


def test_a_method_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    labels = (*tuple(LABELS)[:2], "sience")
    methods = {
        "broken": {"dataset": {"path": gold(tmp_path, "broken", 3, labels)}},
        "theirs": {"dataset": {"path": gold(tmp_path, "theirs", 5)}},
        "few": {"method": {"name": "fewgen", "shots": 1}},
    }
    base = {"teacher": {"backend": "scripted"}, "metrics": None}
    path = written(tmp_path, base=base, methods=methods, teacher={"shots": [0], "rows": 3})
    code, said = compare(path)
    assert code == 1
    found = entries(tmp_path)
    assert "broken.jsonl:3: column 'label' holds 'sience'" in found["broken"]["failed"]
    assert (found["broken"]["students"], found["broken"]["facts"]) == ({}, {})
    assert found["theirs"]["failed"] is None and found["theirs"]["facts"]["rows"] == 15
    assert found["few"]["failed"] is None and found["few"]["facts"]["rows"] == 9
    assert found["teacher, zero-shot"]["failed"] is None
    (line,) = (line for line in table(said) if "failed: " in line)
    assert line.split()[:3] == ["broken", "failed:", "dataset:"]
    assert "<b>broken</b> failed: dataset: " in (tmp_path / "store/c/comparison.html").read_text()
    # Mended, it is made, and the others are found.
    gold(tmp_path, "broken", 3)
    parts = item_parts(tmp_path, "c-toy-few")
    code, _ = compare(path)
    assert code == 0
    assert entries(tmp_path)["broken"]["facts"]["rows"] == 9
    assert item_parts(tmp_path, "c-toy-few") == parts


def test_for_equal_tokens_each_method_makes_what_it_can(tmp_path: Path) -> None:
    base = {"teacher": {"backend": "scripted", "words": 8}, "metrics": None}
    path = written(tmp_path, base=base, rows_per_label=None, tokens=4000, teacher=None)
    code, said = compare(path)
    # Each ends by its limit, which is no failure.
    assert code in (0, 3), said
    for name in ("few", "simple"):
        facts = entries(tmp_path)[name]["facts"]
        assert facts["rows"] > 3 and 2000 < facts["tokens"] <= 4000
        assert facts["stopped"] is not None
    assert "4,000 tokens of the teacher for each method" in said


def test_the_budget_of_a_method_does_not_end_the_baseline_of_the_teacher(tmp_path: Path) -> None:
    base = {"teacher": {"backend": "scripted", "words": 8}, "metrics": None}
    path = written(tmp_path, base=base, rows_per_label=None, tokens=600, teacher={"shots": [4], "rows": 12})
    code, said = compare(path)
    assert code in (0, 3), said
    assert entries(tmp_path)["teacher, 4 shots"]["facts"]["asked"] == 12


def test_a_baseline_that_fails_is_told_and_the_methods_stay(tmp_path: Path) -> None:
    teacher = {"backend": "scripted", "raise_on": "Which label does it have?"}
    path = written(tmp_path, base={"teacher": teacher, "metrics": None}, teacher={"shots": [0], "rows": 3})
    code, _ = compare(path)
    assert code == 1
    assert entries(tmp_path)["few"]["facts"]["rows"] == 9
    assert entries(tmp_path)["teacher, zero-shot"]["failed"]
