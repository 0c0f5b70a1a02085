import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cluster import rundir
from cluster.errors import FingerprintError, LeaseError
from cluster.lease import acquire
from cluster.rundir import (
    check_fingerprint,
    code_revision,
    owned,
    read_metrics,
    read_run,
    record_run,
    update_metrics,
)
from cluster.storage import LocalStore
from jobs.recipe import load_recipe

DEMO = Path(__file__).parents[3] / "jobs" / "recipes" / "demo.yaml"
CONTENT: dict[str, Any] = {"method": {"name": "fewgen", "shots": 3}, "teacher": {"model": "m"}, "index": None}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """An empty run folder."""
    return LocalStore(tmp_path / "run")


def test_run_json_tells_settings_versions_and_code(store: LocalStore) -> None:
    record_run(store, "night", {"run": "night", "style": "kühl"})
    record = read_run(store)
    assert (record["run"], record["resolved"]) == ("night", {"run": "night", "style": "kühl"})
    assert {"python", "ray", "torch", "nightshift"} <= record["versions"].keys()
    assert "kühl" in store.read("run.json").decode()
    assert record["fingerprints"] == {} and record["created"].endswith("+00:00")


def test_a_resumed_run_keeps_its_birth_and_its_fingerprints(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run(store, "night", {"rows": 1})
    record = read_run(store) | {"created": "2020-01-01T00:00:00+00:00"}
    store.write("run.json", json.dumps(record).encode())
    check_fingerprint(store, "synthesize", CONTENT)
    fingerprints = read_run(store)["fingerprints"]
    record_run(store, "night", {"rows": 2})
    again = read_run(store)
    assert (again["created"], again["resolved"]) == ("2020-01-01T00:00:00+00:00", {"rows": 2})
    assert again["fingerprints"] == fingerprints != {}


def test_a_run_folder_without_a_record_reads_as_empty(store: LocalStore) -> None:
    assert read_run(store) == read_metrics(store) == {}


def test_the_same_settings_in_any_order_have_the_same_fingerprint(store: LocalStore) -> None:
    assert check_fingerprint(store, "synthesize", CONTENT)
    assert not check_fingerprint(store, "synthesize", dict(reversed(CONTENT.items())))
    check_fingerprint(store, "train", {"stop": ("a", "b")})
    check_fingerprint(store, "train", {"stop": ["a", "b"]})


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"method": {"name": "fewgen", "shots": 4}}, "  method.shots: 3 -> 4"),
        ({"teacher": {"model": "other"}}, '  teacher.model: "m" -> "other"'),
        ({"index": {"rows": 5}}, "  index.rows: null -> 5"),
        ({"new": True}, "  new: null -> true"),
    ],
)
def test_a_changed_setting_is_refused_by_name(store: LocalStore, change: dict[str, Any], line: str) -> None:
    check_fingerprint(store, "synthesize", CONTENT)
    before = store.read("run.json")
    with pytest.raises(FingerprintError) as error:
        check_fingerprint(store, "synthesize", CONTENT | change)
    told = str(error.value)
    assert line in told.splitlines() and "--set run=NAME" in told and store.url in told
    assert ("method.name" in told, error.value.exit_code) == (False, 2)
    assert store.read("run.json") == before


def test_a_setting_that_a_newer_version_adds_is_named_or_taken(store: LocalStore) -> None:
    check_fingerprint(store, "synthesize", {"a": 1})
    try:
        check_fingerprint(store, "synthesize", {"a": 1, "added": None})
    except FingerprintError as error:
        assert "added" in str(error)


def test_stages_have_fingerprints_of_their_own(store: LocalStore) -> None:
    check_fingerprint(store, "index", {"a": 1})
    check_fingerprint(store, "synthesize", {"a": 2})
    assert read_run(store)["fingerprints"] == {"index": {"a": 1}, "synthesize": {"a": 2}}


def test_no_secret_of_the_environment_is_recorded(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("RAY_AUTH_TOKEN", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "OPENAI_API_KEY")
    for name in names:
        monkeypatch.setenv(name, f"hush-{name}")
    recipe = load_recipe(DEMO)
    record_run(store, recipe.run, recipe.model_dump(mode="json"))
    written = store.read("run.json").decode()
    assert "hush" not in written and not any(name in written for name in names)


def test_metrics_are_replaced_by_section(store: LocalStore) -> None:
    update_metrics(store, a={"x": 1}, b=2)
    update_metrics(store, a={"y": 3})
    assert read_metrics(store) == {"a": {"y": 3}, "b": 2}


def test_the_lease_is_held_within_the_block_and_given_up_after_an_error(store: LocalStore) -> None:
    with pytest.raises(ZeroDivisionError), owned(store) as lease:
        with pytest.raises(LeaseError):
            acquire(store)
        raise ZeroDivisionError
    assert acquire(store).epoch == lease.epoch + 1


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("git"),
        subprocess.CalledProcessError(128, "git"),
        pytest.param(
            subprocess.TimeoutExpired("git", 10),
        ),
    ],
)
def test_without_git_the_code_has_no_revision(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> str:
        raise error

    monkeypatch.setattr(rundir, "_git", fail)
    assert code_revision() is None


def test_settings_may_change_until_a_stage_has_begun(store: LocalStore) -> None:
    assert check_fingerprint(store, "synthesize", {"a": 1}, begun=False)
    assert not check_fingerprint(store, "synthesize", {"a": 1}, begun=False)
    assert check_fingerprint(store, "synthesize", {"a": 2}, begun=False)
    with pytest.raises(FingerprintError, match="a: 2 -> 3"):
        check_fingerprint(store, "synthesize", {"a": 3})
