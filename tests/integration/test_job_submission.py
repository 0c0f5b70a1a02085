"""The demo's recipe sent to a running Ray head through its job server, with token authentication on."""

import contextlib
import gzip
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import yaml

from tests.tiny_encoder import save_tiny_encoder

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
RECIPE = "jobs/recipes/demo.yaml"
DEMO = ROOT / "jobs" / "recipes" / "demo"


@dataclass(frozen=True, slots=True)
class Head:
    """A Ray head: the address of its job server, and the environment of those who may use it."""

    jobs: str
    environment: dict[str, str]


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head of its own ports, folder and token, as a user starts one."""
    gcs, dashboard, agent, agent_grpc, metrics, client = free_ports(6)
    environment = os.environ | {
        "OMP_NUM_THREADS": "2",
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "1",
    }
    # Unix sockets lie in this folder, and their paths may have 107 characters only.
    with tempfile.TemporaryDirectory(prefix="ns", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = [
            str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2",
            "--node-ip-address=127.0.0.1", f"--port={gcs}",
            "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
            f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--metrics-export-port={metrics}", f"--ray-client-server-port={client}", f"--temp-dir={folder}",
            f"--object-store-memory={200 * 2**20}",
        ]  # fmt: skip
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                await_port(dashboard, process)
                yield Head(f"http://127.0.0.1:{dashboard}", environment)
            finally:
                process.terminate()
                process.wait(30)


def await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens on a port."""
    for _ in range(120):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "ray start ended early"
        time.sleep(0.5)
    pytest.fail(f"nobody listens on port {port}")


def changes(folder: Path) -> list[str]:
    """Return what makes the demo short: fewer documents and gold rows, a scripted teacher, a tiny student."""
    task = yaml.safe_load((DEMO / "task.yaml").read_text())
    task |= {"seeds": str(DEMO / "seeds.jsonl"), "test": first(DEMO / "test.jsonl.gz", 28, folder)}
    base = save_tiny_encoder(folder / "tiny")
    (folder / "task.yaml").write_text(yaml.safe_dump(task))
    made = {
        "store": folder / "runs",
        "task": folder / "task.yaml",
        "corpus.path": first(DEMO / "corpus.jsonl.gz", 500, folder),
        "teacher.backend": "scripted",
        "targets.rows_per_label": 3,
        "students": f"[{{name: tiny, preset: minilm, base: {base}, epochs: 1}}]",
        "seeds_only": "false",
        "metrics": "null",
    }
    return [word for key, value in made.items() for word in ("--set", f"{key}={value}")]


def first(source: Path, rows: int, folder: Path) -> str:
    """Copy the first rows of a gzipped JSONL file."""
    with gzip.open(source, "rt", encoding="utf-8") as lines:
        (folder / source.stem).write_text("".join(islice(lines, rows)), encoding="utf-8")
    return str(folder / source.stem)


def command(head: Head, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env=head.environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.timeout(600)
@pytest.mark.slow
def test_a_submitted_job_does_what_the_command_does(head: Head, tmp_path: Path) -> None:
    settings = changes(tmp_path)
    job = ("python", "-m", "jobs.run", RECIPE, *settings)
    done = command(
        head, str(BIN / "ray"), "job", "submit", "--address", head.jobs, "--working-dir", ".", "--", *job
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "demo"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["dataset"]["rows"] == 3 * 14
    assert set(metrics["students"]) == {"tiny"}
    assert (run / "report.html").exists()
    assert "Accuracy on the gold test rows" in done.stdout
    token = head.environment["RAY_AUTH_TOKEN"]
    assert all(token.encode() not in path.read_bytes() for path in run.rglob("*") if path.is_file())

    # One verb more, through the command's own option.
    (run / "report.html").unlink()
    again = command(head, str(BIN / "nightshift"), "report", RECIPE, "--submit", head.jobs, *settings)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (run / "report.html").exists()


@pytest.mark.timeout(120)
def test_exit_codes_and_refusals_travel_back(head: Head, tmp_path: Path) -> None:
    typo = command(
        head, str(BIN / "nightshift"), "run", RECIPE, "--submit", head.jobs, "--set", "method.varaint=retricl"
    )
    assert typo.returncode == 2
    assert "did you mean variant" in typo.stdout + typo.stderr
    stranger = Head(head.jobs, head.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(16)})
    refused = command(stranger, str(BIN / "nightshift"), "run", RECIPE, "--submit", head.jobs)
    assert refused.returncode == 2
    assert "Traceback" not in refused.stderr
    assert "RAY_AUTH_TOKEN" in refused.stderr
