"""`status` and `explain` on real runs: in progress, killed, resumed, finished, and in a bucket."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import CliRunner

from cluster.ledger import read_ledger
from cluster.progress import Progress
from cluster.rundir import owned
from cluster.storage import LocalStore, Store, place
from jobs import synthesize
from jobs.cli import main
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.s3_faults import credentials, faulty_s3, new_bucket

ROOT = Path(__file__).parents[2]
LABELS = {"sports": "a sports event", "politics": "a political decision", "science": "a scientific finding"}
# Words drawn from a prompt repeat themselves, and a rehearsal is not about that.
FILTERS = {"repetition": None, "near_duplicates": None, "label_leak": None, "copies_seed": None}

pytestmark = pytest.mark.usefixtures("ray_local")


def write_recipe(folder: Path, rows: int, **changes: Any) -> Path:
    """Write a recipe with seeds for a scripted teacher that refuses, repeats itself and fails."""
    seeds = [{"text": f"seed {n} of {label}", "label": label} for label in LABELS for n in range(12)]
    (folder / "seeds.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    teacher = {"backend": "scripted", "refuse": 0.1, "repeat": 0.1, "raise_on": "seed 7 of science"}
    recipe = {
        "run": "night",
        "store": str(folder / "runs"),
        "task": {
            "name": "toy",
            "instruction": "Tell the topics apart.",
            "labels": LABELS,
            "seeds": str(folder / "seeds.jsonl"),
        },
        "method": {"name": "fewgen", "shots": 2},
        "teacher": teacher | {"replicas": 2, "num_cpus": 0.5} | changes.pop("teacher", {}),
        "filters": FILTERS,
        "targets": {"rows_per_label": rows},
    }
    path = folder / "night.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


def run_here(recipe: Path, root: Store) -> int:
    """Run the synthesize job in this process."""
    plan = check(load_recipe(recipe))
    store = root.within("night")
    with owned(store) as lease:
        progress = Progress(store)
        progress.event("started", epoch=lease.epoch)
        code = synthesize.run(Stage(plan, root, progress, store, lease))
        progress.event("ended")
    return code


@contextmanager
def driver(recipe: Path, address: str) -> Iterator["subprocess.Popen[str]"]:
    """A driver in a process of its own; it is gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.synthesize", str(recipe), "--address", address],
        cwd=ROOT,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def nightshift(*words: str) -> str:
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    return result.stdout


def status(folder: Path) -> dict[str, Any]:
    return dict(json.loads(nightshift("status", str(folder / "runs" / "night"), "--json")))


def wait_for(folder: Path, driver: "subprocess.Popen[str]", rows: int) -> dict[str, Any]:
    """Look until so many rows were told."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and driver.poll() is None:
        if (folder / "runs" / "night" / "lease").exists():
            told = status(folder)
            if sum(((told["synthesis"] or {}).get("kept") or {}).values()) >= rows:
                return told
        time.sleep(0.3)
    raise AssertionError(f"{rows} rows were never told: {driver.poll()}")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_is_seen_in_progress_after_kill_9_resumed_and_finished(ray_local: str, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 150, teacher={"seconds": 0.5, "seats": 6})
    with driver(recipe, ray_local) as process:
        told = wait_for(tmp_path, process, 20)
        assert (told["state"], told["doing"], told["driver"]["pid"]) == (
            "running",
            "writing rows",
            process.pid,
        )
        assert told["last_sign_seconds"] < 15 and told["synthesis"]["replicas"] == 2
        assert told["synthesis"]["targets"] == dict.fromkeys(LABELS, 150)
        assert told["synthesis"]["now"]["rows"] > 0 and told["synthesis"]["eta_seconds"] > 0
        assert told["synthesis"]["rows"]["rejected:refusal"] > 0 and told["synthesis"]["seats"] == 12
        assert sum(told["synthesis"]["costs"]["tokens"].values()) > 0
        shown = nightshift("status", "night", "--store", str(tmp_path / "runs"))
        assert "night  running for" in shown and "2 replicas alive" in shown
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = status(tmp_path)
        assert told["state"] == "died" and sum(told["synthesis"]["kept"].values()) >= 20
        assert "the same command resumes" in nightshift("status", str(recipe))
    earlier = ledger(LocalStore(tmp_path / "runs" / "night")).num_rows
    # Nobody looks on any more: the teacher need not take its time, which makes no other run of it.
    recipe = write_recipe(tmp_path, 150)
    assert run_here(recipe, LocalStore(tmp_path / "runs")) == 0
    told = status(tmp_path)
    assert (told["state"], told["driver"]["epoch"], told["verdict"]["rows"]) == ("finished", 2, 450)
    assert "finished" in nightshift("status", str(recipe)) and earlier > 0
    counted = json.loads(nightshift("status", str(recipe), "--json", "--ledger"))["synthesis"]["rows"]
    rows = ledger(LocalStore(tmp_path / "runs" / "night"))["status"].to_pylist()
    assert counted["accepted"] == rows.count("accepted") > 450


def ledger(store: Store) -> pa.Table:
    return pa.concat_tables(read_ledger(store))


def stories(store: Store) -> dict[str, dict[str, Any]]:
    """Explain one row of each kind."""
    kept = set()
    for key in store.list("data"):
        with store.open(key) as file:
            kept |= set(pq.read_table(file, columns=["id"])["id"].to_pylist())
    ids: dict[str, str] = {}
    for row in ledger(store).to_pylist():
        ids.setdefault("kept" if row["row_id"] in kept else row["status"], row["row_id"])
    return {
        kind: json.loads(nightshift("explain", store.url, row_id, "--json")) for kind, row_id in ids.items()
    }


def check_stories(store: Store) -> None:
    """Rows of every kind are told, each with its prompt, equal to the one that was sent."""
    told = stories(store)
    assert set(told) == {"kept", "accepted", "rejected", "failed"}
    verdicts = {kind: story["verdicts"][story["rows"][0]["row_id"]] for kind, story in told.items()}
    assert verdicts["kept"].startswith("accepted, in the dataset: data/train-00000-of-00001.parquet, row ")
    assert verdicts["accepted"].startswith(
        ("accepted, surplus: duplicate of ", "accepted, surplus: over target")
    )
    assert verdicts["rejected"] == "rejected: refusal"
    assert verdicts["failed"] == "failed: RuntimeError: the script says: fail"
    for kind in ("kept", "accepted", "rejected"):
        assert told[kind]["checked"] is True and told[kind]["doubts"] == [], kind
        assert told[kind]["prompt_hash"] == told[kind]["rows"][0]["prompt_hashes"][0]
        assert all(shot["text"] in told[kind]["prompt"] for shot in told[kind]["shots"])
    assert told["failed"]["checked"] is None and "seed 7 of science" in told["failed"]["prompt"]


def test_rows_of_every_kind_are_explained_with_the_prompt_that_was_sent(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 40)
    assert run_here(recipe, LocalStore(tmp_path / "runs")) == 0
    check_stories(LocalStore(tmp_path / "runs" / "night"))
    shown = nightshift(
        "explain", str(recipe), stories(LocalStore(tmp_path / "runs" / "night"))["kept"]["rows"][0]["item_id"]
    )
    assert "Prompt (hash checked)" in shown and "Written by" in shown


@pytest.mark.timeout(120)
def test_a_run_in_a_bucket_is_seen_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty_s3() as server:
        for name, value in (credentials(server.url) | {"NIGHTSHIFT_CACHE": str(tmp_path / "cache")}).items():
            monkeypatch.setenv(name, value)
        root = place(f"s3://{new_bucket(server)}/runs")
        assert run_here(write_recipe(tmp_path, 30, store=root.url), root) == 0
        run = root.within("night")
        told = json.loads(nightshift("status", run.url, "--json"))
        assert (told["state"], told["verdict"]["rows"]) == ("finished", 90)
        assert "finished" in nightshift("status", "night", "--store", root.url)
        check_stories(run)
