"""What a verb finds checked before it starts, and what the run folder holds when it starts and ends."""

import json
import signal
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from cluster.errors import FingerprintError, LeaseError, ModelError, SettingsError
from cluster.lease import acquire
from cluster.progress import Progress
from cluster.rundir import read_run
from cluster.storage import LocalStore
from jobs import filling
from jobs import stage as stage_module
from jobs import synthesize as synthesize_module
from jobs.cli import VERBS, WATCHERS, main
from jobs.recipe import load_recipe
from jobs.stage import Plan, Stage, check, opened
from synth.teachers.scripted import ScriptedSettings

RECIPE: dict[str, Any] = {
    "run": "r",
    "task": {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}},
    "method": {"name": "fewgen"},
    "teacher": {"backend": "scripted"},
    "targets": {"rows_per_label": 2},
}
CHANGED = {"name": "fewgen", "stop": ["END"]}


class Killed(BaseException):
    """The process ends here."""


class Mortal(LocalStore):
    """A store whose user is killed before anything can be deleted."""

    def delete(self, key: str) -> None:
        raise Killed


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Give the process its handler back: a verb sets one."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither a cluster nor a job; the working directory and the home are in the temporary folder."""
    monkeypatch.setattr(stage_module, "connected", lambda address: nullcontext())
    monkeypatch.setattr(stage_module, "check_shared", lambda store: None)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")


def plan(folder: Path, **changes: Any) -> Plan:
    """The plan of a recipe that needs neither a model nor a corpus."""
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE | changes))
    return check(load_recipe(path))


def begin(store: LocalStore, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start to synthesize, up to where the teacher would be asked."""

    def stop(order: object) -> None:
        raise InterruptedError

    monkeypatch.setattr(filling, "synthesize", stop)
    lease = acquire(LocalStore(store.root))
    try:
        with pytest.raises(InterruptedError):
            synthesize_module.run(Stage(plan, store, Progress(None), store, lease))
    finally:
        lease.release()


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {*WATCHERS, "compare"}))
def test_only_verbs_that_write_rows_ask_for_the_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def absent(self: ScriptedSettings) -> str:
        raise ModelError("teacher: is not installed here")

    monkeypatch.setattr(ScriptedSettings, "check", absent)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    words = [
        verb,
        str(tmp_path / "recipe.yaml"),
        *(["query"] if verb in {"mine", "search"} else []),
        "--dry-run",
    ]
    assert CliRunner().invoke(main, words).exit_code == (2 if verb in {"run", "synthesize"} else 0)


@pytest.mark.parametrize(("job", "place"), [(False, "work"), (True, "home")])
def test_a_relative_store_lies_in_the_home_directory_of_a_job_whose_folder_will_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None, job: bool, place: str
) -> None:
    if job:
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with opened(plan(tmp_path), None) as stage:
        assert stage.root.url == str(tmp_path / place / "runs")
        assert stage.run.url == str(tmp_path / place / "runs" / "r")


def test_a_run_folder_is_owned_while_a_verb_works_and_free_after_it_whatever_happened(
    tmp_path: Path, no_ray: None
) -> None:
    with pytest.raises(ZeroDivisionError), opened(plan(tmp_path), None) as stage:
        with pytest.raises(LeaseError), opened(plan(tmp_path), None):
            pass
        raise ZeroDivisionError
    with opened(plan(tmp_path), None) as again:
        assert again.lease.epoch == stage.lease.epoch + 1
    events = [json.loads(line) for line in again.run.read("events.jsonl").splitlines()]
    told = [(e["event"], e.get("epoch")) for e in events]
    assert told == [("started", 1), ("failed", None), ("started", 2), ("ended", None)]


def test_settings_are_recorded_at_first_and_then_only_once_they_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_ray: None
) -> None:
    with opened(plan(tmp_path), None) as stage:
        assert read_run(stage.run)["resolved"] == stage.recipe.model_dump(mode="json")
        before = stage.run.read("run.json")
    with opened(plan(tmp_path, license="mit"), None) as other:
        assert other.run.read("run.json") == before
    store = LocalStore(Path(stage.run.url))
    begin(store, plan(tmp_path, targets={"rows_per_label": 5}), monkeypatch)
    assert read_run(store)["resolved"]["targets"]["rows_per_label"] == 5
    store.create("ledger/part-000099-000001.parquet", b"")
    before = store.read("run.json")
    with opened(
        plan(tmp_path, method={"name": "fewgen", "instruction": "Say {{ verbalizer }}."}), None
    ) as changed:
        with pytest.raises(FingerprintError, match=r"method\.instruction"):
            synthesize_module.run(changed)
        assert changed.run.read("run.json") == before


def test_what_was_prepared_goes_before_the_first_row_and_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path / "r")
    begin(store, plan(tmp_path), monkeypatch)
    store.write("sources/manifest.json", b"{}")
    begin(store, plan(tmp_path), monkeypatch)
    assert not store.exists("sources")
    store.write("sources/manifest.json", b"{}")
    store.write("ledger/part-000099-000001.parquet", b"")
    begin(store, plan(tmp_path, targets={"rows_per_label": 9}), monkeypatch)
    assert store.exists("sources")


def test_gold_training_rows_are_read_and_no_teacher_is_given_them(tmp_path: Path) -> None:
    rows = [{"text": "one", "label": "a"}, {"text": "two", "label": ["a", "b"]}]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = RECIPE["task"] | {"train": "train.jsonl", "test": "test.jsonl"}
    found = plan(tmp_path, task=task)
    assert [row.labels for row in found.train] == [("a",), ("a", "b")]
    assert found.task.seeds == ()
    without = plan(tmp_path, task=RECIPE["task"])
    assert without.train == ()
    assert found.task.identity() == without.task.identity()


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ({"rows": "gold"}, "students: s: rows takes gold; name them in task.train or leave them out"),
        ({"rows": ["synthetic", "seeds"]}, "students: s: rows takes seeds; name them in task.seeds"),
        ({"onnx": True}, "students: s: onnx needs .*; install nightshift\\[onnx\\], or set onnx to false"),
    ],
)
def test_what_a_student_lacks_is_said_before_anything_starts(
    tmp_path: Path, student: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=message):
        plan(tmp_path, students=[{"name": "s", "base": str(tmp_path)} | student])
