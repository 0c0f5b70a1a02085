"""A cluster of three nodes loses one: every node had work, and the run ends as if nothing had happened."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.chaos.runs import dataset, events, item_parts, metrics, write_recipe

ROOT = Path(__file__).parents[2]
ROWS = 80
SLOW = {"num_cpus": 1, "in_flight": 4, "seconds": 0.25}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head and two more nodes, each of one CPU and with its own processes."""
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "include_dashboard": False},
        shutdown_at_exit=False,
    )
    for _ in range(2):
        cluster.add_node(num_cpus=1)
    try:
        yield cluster
    finally:
        cluster.shutdown()


def synthesize(cluster: Cluster, recipe: Path) -> "subprocess.Popen[str]":
    """Start the job as a user of the cluster does."""
    command = [sys.executable, "-m", "jobs.synthesize", str(recipe), "--address", cluster.address]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.timeout(240)
@pytest.mark.slow
def test_every_node_works_and_one_may_be_lost(tmp_path: Path, cluster: Cluster) -> None:
    victim = sorted(cluster.worker_nodes, key=lambda node: str(node.node_id))[0]
    with synthesize(cluster, write_recipe(tmp_path, "stormy", ROWS, **SLOW)) as driver:
        deadline = time.monotonic() + 120
        while len(ready(tmp_path, "stormy")) < 3 or len(item_parts(tmp_path, "stormy")) < ROWS // 4:
            assert driver.poll() is None and time.monotonic() < deadline, "the run never got under way"
            time.sleep(0.2)
        cluster.remove_node(victim, allow_graceful=False)
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    assert ready(tmp_path, "stormy") == {
        str(node.node_id) for node in (cluster.head_node, *cluster.worker_nodes, victim)
    }
    assert metrics(tmp_path, "stormy")["synthesis"]["restarts"] == 1
    assert set(item_parts(tmp_path, "stormy").values()) == {1}

    with synthesize(cluster, write_recipe(tmp_path, "calm", ROWS, seconds=0.01)) as driver:
        said, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, said
    assert dataset(tmp_path, "stormy") == dataset(tmp_path, "calm")


def ready(folder: Path, run: str) -> set[str]:
    """Return the ids of the nodes on which a replica has been loaded."""
    return {str(event["node"]) for event in events(folder, run, "replica_ready")}
