"""Teacher replicas on a cluster of several nodes whose GPUs are made up: where they are put, come and go."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.own_cluster import beside_the_session

ROOT = Path(__file__).parents[2]
STORE = 80 * 2**20
TEACHER = {"seconds": 0.1, "in_flight": 8, "num_cpus": 0.1}


class Machines:
    """A head without GPUs, and worker nodes that stay for later tests."""

    def __init__(self) -> None:
        self.cluster = Cluster(
            initialize_head=True,
            shutdown_at_exit=False,
            head_node_args={"num_cpus": 1, "include_dashboard": False, "object_store_memory": STORE},
        )
        self._gpus: list[int] = []

    def have(self, *gpus: int) -> None:
        """Add the nodes, each with so many GPUs, that are missing."""
        for number in gpus[len(self._gpus) :]:
            self.cluster.add_node(num_cpus=1, num_gpus=number, object_store_memory=STORE)
            self._gpus.append(number)

    def drain(self, node: str, seconds: float) -> None:
        """Tell Ray that a node is to go."""
        # As a node's own hook does.
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", node]
        command += ["--address", self.cluster.address, "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message", "spot", "--deadline-remaining-seconds", str(round(seconds))]
        subprocess.run(command, check=True, timeout=200)


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    with beside_the_session():
        machines = Machines()
        try:
            yield machines
        finally:
            for node in machines.cluster.list_all_nodes():
                machines.cluster.remove_node(node, allow_graceful=False)


class Night:
    """A pool at work in a process of its own."""

    def __init__(self, folder: Path, driver: "subprocess.Popen[str]") -> None:
        self._folder, self._driver = folder, driver
        self.result: dict[str, Any] = {}

    def events(self, kind: str) -> list[dict[str, Any]]:
        path = self._folder / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [event for event in map(json.loads, lines) if event["kind"] == kind]

    def until(self, there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not there():
            assert self._driver.poll() is None and time.monotonic() < deadline, self._driver.communicate()
            time.sleep(0.1)

    def ready(self, number: int) -> list[dict[str, Any]]:
        """Wait until so many replicas were loaded since the start, and return them."""
        self.until(lambda: len(self.events("replica_ready")) >= number)
        return self.events("replica_ready")

    def stop(self) -> None:
        (self._folder / "stop").touch()
        said, _ = self._driver.communicate(timeout=200)
        assert self._driver.returncode == 0, said
        self.result = dict(json.loads(said.splitlines()[-1]))
        assert self.result["doubled"] == 0 and self.result["settled"] > 0


@contextmanager
def night(folder: Path, machines: Machines, **teacher: Any) -> Iterator[Night]:
    command = [sys.executable, "-m", "tests.integration.fleet_night", machines.cluster.address, str(folder)]
    settings = json.dumps(TEACHER | teacher)
    with subprocess.Popen([*command, settings], cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        try:
            yield Night(folder, driver)
        finally:
            driver.kill()


def _nodes(replicas: list[dict[str, Any]]) -> Mapping[str, int]:
    nodes = [str(each["node"]) for each in replicas]
    return {node: nodes.count(node) for node in nodes}


def test_four_replicas_share_a_gpu(tmp_path: Path, machines: Machines) -> None:
    machines.have(1)
    with night(tmp_path, machines, num_gpus=0.25) as work:
        assert list(_nodes(work.ready(4)).values()) == [4]
        work.stop()
    [begun] = work.events("begun")
    assert (begun["places"], begun["gpus"], begun["asks"]) == (4, 0.25, "0.1 CPUs and 0.25 GPUs")
    assert len(work.result["by"]) == 4 and work.result["restarts"] == 0
    assert work.result["replica_seconds"] > 1


def test_a_node_that_joins_gets_replicas(tmp_path: Path, machines: Machines) -> None:
    machines.have(1)
    # The backend says how many GPUs it uses where there are any.
    with night(tmp_path, machines, needs_gpus=1) as work:
        work.ready(1)
        machines.have(1, 2)
        assert sorted(_nodes(work.ready(3)).values()) == [1, 2]
        work.stop()
    assert work.result["lost"] == {"innocent": 0, "other": 0}


def test_a_replica_larger_than_any_node_spans_two(tmp_path: Path, machines: Machines) -> None:
    machines.have(1, 2, 2)
    with night(tmp_path, machines, needs_gpus=4) as work:
        work.ready(1)
        work.stop()
    [begun] = work.events("begun")
    assert begun["places"] == 1 and begun["asks"].endswith("and 4 GPUs on several nodes")
    [spread] = work.result["spread"]
    assert len(spread) >= 2
    # What it held is free again: one GPU was left beside it.
    (tmp_path / "after").mkdir()
    with night(tmp_path / "after", machines, num_gpus=1, replicas=2) as work:
        work.ready(2)
        work.stop()


def test_a_replica_leaves_a_node_that_is_to_go_and_its_successor_starts_at_once(
    tmp_path: Path, machines: Machines
) -> None:
    machines.have(1, 2, 2)
    with night(tmp_path, machines, num_gpus=1, replicas=1) as work:
        [first] = work.ready(1)
        machines.drain(first["node"], 20)
        _, second = work.ready(2)
        assert second["node"] != first["node"]
        work.until(lambda: bool(work.events("replica_retires")))
        time.sleep(1)
        work.stop()
    [notice], [retires] = work.events("node_leaving"), work.events("replica_retires")
    assert notice["node"] == first["node"] and 10 < notice["seconds"] <= 20
    assert retires["replica"] == first["replica"] and second["at"] - retires["at"] < 15
    assert work.result["restarts"] == 1 and work.result["lost"] == {"innocent": 0, "other": 0}
    assert set(work.result["by"]) == {first["replica"], second["replica"]}
