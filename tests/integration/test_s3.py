"""A whole run in a bucket, on two nodes that share nothing else; its student resumes from there."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ray.cluster_utils import Cluster

from cluster.ledger import read_ledger
from cluster.storage import Store, place
from tests.s3_faults import FaultyS3, credentials, faulty_s3, new_bucket
from tests.tiny_encoder import MINILM, save_tiny_encoder

# Ray leaves sockets of its own to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.slow,
]

ROOT = Path(__file__).parents[2]
LABELS = {"sport": "a sports event", "food": "a dish"}
CHECKPOINTS = "runs/small/students/.tiny-training"
# Checkpoints after every step: the worker dies within the training.
# On are one metric that reads tokens, one that reads vectors, and one that reads neither.
OFF = dict.fromkeys(
    [
        "bound_terms",
        "distinct",
        "entities",
        "labels",
        "map",
        "mauve",
        "meaning",
        "nearest",
        "nearest_rouge_l",
        "profile",
    ]
)
STUDENT = {"name": "tiny", "epochs": 4, "batch_size": 4, "max_tokens": 32, "checkpoint_seconds": 0}
TOPICS = ("the football match", "a striker and a referee", "garlic soup", "an oven dish with butter")


@dataclass(slots=True)
class World:
    """A cluster whose machines, the driver's among them, have private folders and one bucket."""

    server: FaultyS3
    bucket: str
    folder: Path
    cluster: Cluster = field(init=False)

    def machine(self, name: str, **changes: str) -> dict[str, str]:
        """Return the environment of a machine, with folders that no other one is told of."""
        home = self.folder / name
        (home / "tmp").mkdir(parents=True)
        return credentials(self.server.url) | {
            "HOME": str(home),
            "NIGHTSHIFT_CACHE": str(home / "cache"),
            "TMPDIR": str(home / "tmp"),
            **changes,
        }

    def run(self, verb: str, recipe: Path, *words: str) -> "subprocess.Popen[str]":
        """Start a driver on a machine of its own."""
        name = f"driver-{time.monotonic_ns()}"
        return subprocess.Popen(
            [sys.executable, "-m", f"jobs.{verb}", str(recipe), "--address", self.cluster.address, *words],
            cwd=ROOT,
            env=os.environ | self.machine(name) | {"PYTHONWARNINGS": "ignore"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, verb: str, recipe: Path, *words: str) -> str:
        """Run a driver to its end."""
        driver = self.run(verb, recipe, *words)
        output, _ = driver.communicate(timeout=150)
        assert driver.returncode == 0, output
        return output

    def kept(self, name: str) -> set[str]:
        """Return the names of what a machine fetched."""
        return {path.name for path in (self.folder / name / "cache" / "objects").glob("*/*")}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Two nodes of one CPU and a bucket."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, faulty_s3() as server:
        made = World(server, new_bucket(server), Path(folder))
        memory = 100 * 2**20
        head = {"num_cpus": 1, "object_store_memory": memory, "env_vars": made.machine("one")}
        made.cluster = Cluster(initialize_head=True, shutdown_at_exit=False, head_node_args=head)
        made.cluster.add_node(num_cpus=1, object_store_memory=memory, env_vars=made.machine("two"))
        try:
            yield made
        finally:
            made.cluster.shutdown()


@pytest.fixture
def bucket(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The bucket as the test itself sees it."""
    for name, value in (credentials(world.server.url) | {"NIGHTSHIFT_CACHE": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    yield place(f"s3://{world.bucket}")
    world.server.calm()


def write_recipe(world: World, **changes: Any) -> Path:
    """Write a small recipe: a corpus in the bucket, a scripted teacher, one student of a few steps."""
    seeds = [
        {"text": f"We talked about {TOPICS[n % 4]}.", "label": list(LABELS)[n % 4 // 2]} for n in range(8)
    ]
    (world.folder / "gold.jsonl").write_text("".join(json.dumps(seed) + "\n" for seed in seeds))
    base = save_tiny_encoder(world.folder / "encoder")
    recipe = {
        "run": "small",
        "store": f"s3://{world.bucket}/runs",
        "task": {
            "name": "toy",
            "instruction": "Tell the topics apart.",
            "labels": LABELS,
            "seeds": str(world.folder / "gold.jsonl"),
            "test": str(world.folder / "gold.jsonl"),
        },
        "corpus": {"path": f"s3://{world.bucket}/corpus"},
        "retriever": {"band": [-1.0, 1.0]},
        "index": {"partition_rows": 16, "encoder": {"model": MINILM, "preset": "minilm"}},
        "method": {"name": "synthesizrr", "shots": 1, "variant": "retricl", "min_document_tokens": 0},
        "teacher": {"backend": "scripted", "num_cpus": 1},
        "targets": {"rows_per_label": 4},
        "students": [STUDENT | {"base": base}],
        "seeds_only": False,
        "metrics": OFF,
    }
    path = world.folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


@pytest.mark.timeout(600)
def test_the_whole_night_in_a_bucket_that_is_all_the_nodes_share(world: World, bucket: Store) -> None:
    for part in range(2):
        rows = [{"text": f"Document {n} is about {TOPICS[n % 4]}."} for n in range(part * 24, part * 24 + 24)]
        bucket.write(f"corpus/{part}.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    world.server.rate = 0.05
    driver = world.run("run", write_recipe(world))
    kill_a_worker(world, driver)
    output, _ = driver.communicate(timeout=300)
    assert driver.returncode == 0, output
    run = bucket.within("runs/small")
    metrics = json.loads(run.read("metrics.json"))
    assert metrics["dataset"]["rows"] == 8 and set(metrics["students"]) == {"tiny"}
    assert run.exists("report.html") and f"s3://{world.bucket}/runs/small" in output
    items = [item for table in read_ledger(run) for item in set(table["item_id"].to_pylist())]
    assert len(items) == len(set(items)) >= 8
    assert world.kept("one") | world.kept("two")
    assert sum(world.server.struck.values()) > 0
    world.server.rate = 0
    # The student went on from its checkpoint in the bucket, and left nothing of it there.
    report = json.loads(run.read("students/tiny/manifest.json"))["report"]
    assert report["resumed_after"] > 0 and len(report["losses"]) == 4
    assert not place(f"s3://{world.bucket}/{CHECKPOINTS}").list("")
    secret = credentials("")["AWS_SECRET_ACCESS_KEY"].encode()
    assert not [key for key in bucket.list("runs") if secret in bucket.read(key)]
    assert secret.decode() not in output
    # The same command finds everything done.
    again = world.finish("run", world.folder / "recipe.yaml")
    assert "Report:" in again
    assert json.loads(run.read("metrics.json"))["students"] == metrics["students"]


def kill_a_worker(world: World, driver: "subprocess.Popen[str]") -> None:
    """Kill a training process of this test's own nodes as soon as there is a checkpoint in the bucket."""
    deadline = time.monotonic() + 300
    scratch = place(f"s3://{world.bucket}/{CHECKPOINTS}")
    while time.monotonic() < deadline and driver.poll() is None:
        keys = scratch.list("")
        if any(key.endswith("training.pt") for key in keys) and any(
            "manager_snapshot" in key for key in keys
        ):
            for process in psutil.Process().children(recursive=True):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    process.kill()
                    return
        # The bucket is served by this process, which is not to be kept from it.
        time.sleep(0.02 if keys else 0.2)


@pytest.mark.timeout(120)
def test_a_node_without_credentials_is_named(world: World, bucket: Store) -> None:
    changes = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    stranger = world.cluster.add_node(num_cpus=1, env_vars=world.machine("stranger", **changes))
    try:
        driver = world.run("synthesize", write_recipe(world))
        output, _ = driver.communicate(timeout=200)
    finally:
        world.cluster.remove_node(stranger)
    assert driver.returncode == 2, output
    assert f"store s3://{world.bucket}/runs: node " in output
    assert "no credentials were found" in output and "every node needs" in output
    assert "Traceback" not in output
