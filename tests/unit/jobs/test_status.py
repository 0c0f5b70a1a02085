"""What `nightshift status` says of run folders made by hand: in progress, ended in every way, and damaged."""

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from cluster import presence
from cluster.lease import Lease, acquire
from cluster.ledger import Ledger
from cluster.presence import last_sitting
from cluster.rundir import record_run, update_metrics
from cluster.storage import LocalStore
from jobs import happenings, status
from jobs.cli import main
from jobs.watching import look
from synth.telling import Speed, Telling
from tests.terminal import Terminal

ROOT = Path(__file__).parents[3]
TELLING = Telling(
    kept={"World": 300, "Sports": 100},
    targets={"World": 500, "Sports": 500},
    rows={"accepted": 420, "rejected": 80, "rejected:refusal": 50, "rejected:empty": 30, "failed": 2},
    prompt_tokens=90_000,
    reply_tokens=40_000,
    now=Speed(5.0, 1000, 500),
    average=Speed(4.0, 900, 450),
    replicas=3,
    restarts=1,
    running=60,
    seats=64,
    gpu=0.9,
    eta_seconds=120.0,
    costs={
        "tokens": {"prompt": 90_000, "reply": 40_000},
        "limits": {"tokens": {"limit": 200_000, "spent": 130_000}},
    },
)
METRICS: dict[str, Any] = {
    "dataset": {
        "rows": 900,
        "per_label": {"World": 500, "Sports": 400},
        "target": {"World": 500, "Sports": 500},
        "surplus": {"duplicate": 7},
    },
    "synthesis": {
        "seconds": 100.0,
        "restarts": 4,
        "items": {"failed": 3},
        "rows": {"accepted": 907, "rejected": {"refusal": 60}},
        "prompt_tokens": 5000,
        "reply_tokens": 3000,
        "stalled": {"Sports": "the ceiling is 2500"},
        "stopped": None,
    },
    "costs": {"tokens": {"prompt": 5000, "reply": 3000}},
}


class Folder:
    """A run folder made by hand."""

    def __init__(self, root: Path, name: str = "night") -> None:
        self.store = LocalStore(root / "runs" / name)
        resolved = {"method": {"name": "fewgen"}, "teacher": {"model": "a/teacher"}}
        record_run(self.store, name, resolved)

    def begin(self) -> Lease:
        lease = acquire(self.store)
        self.tell("started", epoch=lease.epoch)
        return lease

    def tell(self, kind: str, ago: float = 0.0, **data: Any) -> None:
        moment = datetime.fromtimestamp(time.time() - ago, UTC).isoformat()
        line = json.dumps({"time": moment, "event": kind, **data}) + "\n"
        self.store.append("events.jsonl", line.encode())

    def die(self, lease: Lease) -> None:
        """Let the driver's last sign of life be five minutes old."""
        beat = {"time": time.time() - 300, "released": False}
        self.store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps(beat).encode())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.chdir(tmp_path)
    return Folder(tmp_path)


def nightshift(*words: str) -> Result:
    return CliRunner().invoke(main, ["status", *words])


def text(*words: str) -> str:
    """What the verb prints, which ends well, on one line."""
    result = nightshift(*words)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_a_run_in_progress_shows_all_that_was_told_last(folder: Folder) -> None:
    folder.begin()
    folder.tell("replica_lost", ago=90, replica="replica-2", reason="it was killed")
    folder.tell("synthesis", ago=4, **TELLING.as_event())
    told = text("night")
    for part in (
        "night running for 0:00 by", "last sign of life 0 s ago: writing rows",
        "fewgen, a/teacher, sitting 1",
        "400 of 1,000 rows", "ETA 2:00", "World 300/500", "Sports 100/500", "5 rows/s (average 4)",
        "500 reply tokens/s", "3 replicas alive, 60 of 64 seats busy, GPU 90%, 1 restart",
        "80 of 500 replies (16%): refusal 50, empty 30; 2 failed", "130k tokens", "tokens 130k of 200k (65%)",
        "90 s ago replica lost: replica-2; it was killed", "as of 4 s ago",
    ):  # fmt: skip
        assert part in told, part


def test_json_has_the_same_for_machines(folder: Folder) -> None:
    folder.begin()
    folder.tell("synthesis", ago=4, **TELLING.as_event())
    told = json.loads(nightshift("night", "--json").stdout)
    assert (told["state"], told["run"], told["driver"]["epoch"]) == ("running", "night", 1)
    assert told["synthesis"]["kept"] == {"World": 300, "Sports": 100} and told["synthesis"]["gpu"] == 0.9
    assert 3.9 < told["synthesis_age_seconds"] < 30 and told["last_sign_seconds"] < 30


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        ("index", {"step": "embedding", "done": 3, "total": 9}, "indexing: embedding 3/9"),
        ("synthesis", {"kept": {"a": 0}, "replicas": 0}, "waiting for a teacher"),
        ("trained", {"student": "small"}, "student small is trained"),
        ("started", {}, "starting"),
    ],
)
def test_what_a_running_one_does_is_said(folder: Folder, kind: str, data: dict[str, Any], words: str) -> None:
    folder.begin()
    folder.tell(kind, **data)
    assert words in text("night")


def test_a_driver_that_is_gone_without_a_word_has_died(folder: Folder) -> None:
    lease = folder.begin()
    folder.tell("synthesis", ago=310, **TELLING.as_event())
    folder.die(lease)
    told = text("night")
    assert (
        "night died" in told and "last sign of life 5 min ago" in told and "the same command resumes" in told
    )
    assert "400 of 1,000 rows" in told and "replicas alive" not in told and "ETA" not in told


def test_a_driver_that_was_killed_on_this_machine_is_known_to_be_dead_at_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    monkeypatch.setattr(presence, "_there", lambda *_: False)
    assert look(folder.store).state == "died"
    sitting = last_sitting(folder.store)
    assert sitting is not None and not sitting.alive and not sitting.released


def test_a_failure_is_told_with_its_reason(folder: Folder) -> None:
    lease = folder.begin()
    folder.tell("synthesis", **TELLING.as_event())
    folder.tell("failed", reason="ModelError: the key is refused\x1b[2J")
    lease.release()
    told = text("night")
    assert "night failed 0 s ago: ModelError: the key is refused\\x1b[2J everything" in told


def test_a_run_that_was_told_to_stop_has_not_failed(folder: Folder) -> None:
    lease = folder.begin()
    folder.tell("failed", reason="KeyboardInterrupt: ")
    lease.release()
    assert "night stopped 0 s ago: it was told to stop" in text("night")


def test_a_finished_run_has_a_verdict_from_its_metrics(folder: Folder) -> None:
    lease = folder.begin()
    folder.tell("synthesis", ago=5, **TELLING.as_event())
    folder.tell("synthesized", rows=900)
    folder.tell("stalled", label="Sports", why="the ceiling is 2500")
    folder.tell("ended")
    lease.release()
    update_metrics(folder.store, **METRICS, students={"small": {"accuracy": 0.875}})
    told = text("night")
    for part in (
        "finished 0 s ago: the dataset has 900 of 1,000 rows; Sports stalled (the ceiling is 2500)",
        "World 500/500", "Sports 400/500", "Surplus duplicate 7", "Restarts 4", "9.07 rows/s",
        "60 of 967 replies (6%): refusal 60; 3 failed", "small 87.5%",
    ):  # fmt: skip
        assert part in told, part


def test_a_sitting_that_extends_a_run_shows_its_own_progress(folder: Folder) -> None:
    folder.begin().release()
    folder.tell("synthesized", ago=9, rows=900)
    folder.tell("ended", ago=9)
    update_metrics(folder.store, **METRICS)
    folder.begin()
    assert "900 of 1,000 rows" in text("night")
    folder.tell("synthesis", **TELLING.as_event())
    assert "400 of 1,000 rows" in text("night")


def test_a_folder_that_no_driver_has_worked_on_is_said_to_be_one(folder: Folder) -> None:
    assert "not begun: no driver has worked on it yet" in text("night")


def test_only_the_end_of_a_long_file_of_events_is_read(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.begin()
    folder.tell("synthesis", **TELLING.as_event() | {"kept": {"World": 1}})
    for number in range(3000):
        folder.tell("filler", text="x" * 50, number=number)
    folder.tell("synthesis", **TELLING.as_event())
    monkeypatch.setattr(happenings, "TAIL_BYTES", 4096)
    sight = look(folder.store)
    assert sight.telling is not None and sight.telling.kept["World"] == 300
    assert sight.read == 4096 and sight.size > 200_000
    assert "MiB of events the last 0.0 were read" in text("night")


def test_more_is_read_when_the_end_says_nothing_of_the_synthesis(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.tell("synthesis", **TELLING.as_event())
    for _ in range(300):
        folder.tell("replica_failed_to_start", replica="r", reason="x" * 50)
    monkeypatch.setattr(happenings, "TAIL_BYTES", 4096)
    assert look(folder.store).telling is not None
    monkeypatch.setattr(happenings, "MOST_BYTES", 4096)
    assert look(folder.store).telling is None


def test_half_a_line_and_broken_lines_are_passed_over(folder: Folder) -> None:
    folder.begin()
    folder.tell("synthesis", **TELLING.as_event())
    folder.store.append(
        "events.jsonl", b'not json\n[1]\n{"event": "x"}\n{"time": "2031-01-01T00:00:00+00:00", "ev'
    )
    assert "400 of 1,000 rows" in text("night")


def test_rows_of_all_sittings_are_counted_in_the_ledger_when_asked(folder: Folder) -> None:
    lease = folder.begin()
    folder.tell("synthesis", **TELLING.as_event())
    schema = pa.schema([("item_id", pa.string()), ("status", pa.string()), ("reason", pa.string())])
    rows = [
        ("a", "accepted", None),
        ("b", "rejected", "too_long"),
        ("c", "rejected", "refusal"),
        ("d", "failed", ""),
    ]
    rows += [("e", "rejected", "refusal")]
    batch = pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)
    Ledger(folder.store, lease, schema).commit([batch])
    assert "3 of 4 replies (75%): refusal 2, too long 1; 1 failed" in text("night", "--ledger")


def test_a_run_is_found_by_folder_name_and_recipe(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(f"run: night\nstore: {tmp_path}/runs\n")
    (tmp_path / "there").mkdir()
    for words in (["night"], ["runs/night"], [folder.store.url], ["r.yaml"], [f"file://{folder.store.url}"]):
        assert "night not begun" in text(*words)
    assert "night not begun" in text("night", "--store", str(tmp_path / "runs"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nigth"], "runs/nigth; there are night"),
        (["night", "--store", "elsewhere"], "elsewhere/night; give its folder"),
        (["/no/such/folder"], "there is no run in /no/such/folder"),
        (["none.yaml"], "none.yaml: there is no run"),
        (["empty.yaml"], "empty.yaml: names no run"),
        (["ftp://host/run"], "is of an unknown kind"),
    ],
)
def test_what_is_no_run_is_refused_with_what_was_looked_at(
    folder: Folder, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty.yaml").write_text("store: runs\n")
    result = nightshift(*words)
    assert result.exit_code == 2 and message in result.stderr and result.stdout == ""
    assert not (tmp_path / "elsewhere").exists()


def test_following_redraws_until_the_run_ends(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = folder.begin()
    looks = 0

    def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        folder.tell("synthesis", **TELLING.as_event() | {"kept": {"World": 300 + looks, "Sports": 100}})
        if looks == 3:
            folder.tell("ended")
            lease.release()

    for name, value in {"TERM": "xterm", "COLUMNS": "90", "LINES": "24"}.items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    monkeypatch.setattr(status.time, "sleep", sleep)
    monkeypatch.setattr(sys, "stdout", out)
    assert status.run("night", None, False, True, False) == 0
    shown = [line for line in out.shown() if line]
    assert looks == 3 and shown[0].startswith("night  finished")
    assert len([line for line in shown if line.startswith("World")]) == 1 and "World  303/500" in "\n".join(
        shown
    )


def test_following_without_a_terminal_prints_lines_and_ends_with_the_whole(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = folder.begin()
    folder.tell("synthesis", **TELLING.as_event())

    def sleep(seconds: float) -> None:
        folder.tell("ended")
        lease.release()

    monkeypatch.setattr(status.time, "sleep", sleep)
    lines = nightshift("night", "--follow").stdout.splitlines()
    assert lines[0].startswith("Rows 400/1000 | 5.00 rows/s") and lines[1].startswith("night  finished")


def test_it_is_light_and_quick(folder: Folder) -> None:
    folder.begin()
    done = subprocess.run(
        [sys.executable, "-c", LIGHT, folder.store.url], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[] 0 True"


LIGHT = """
import sys, time
from jobs.cli import main
try:
    main(["status", sys.argv[1], "--json"], standalone_mode=False)
except SystemExit as end:
    heavy = {"ray", "torch", "transformers", "vllm", "faiss", "numpy", "pyarrow", "boto3"}
    print(sorted(heavy & set(sys.modules)), end.code, time.process_time() < 1)
"""
