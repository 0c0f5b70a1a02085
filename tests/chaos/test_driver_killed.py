"""A driver killed at any moment costs nothing but time: every planned row is there once and only once."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.chaos.runs import dataset, events, item_parts, metrics, write_recipe

# Ray leaves sockets of its own to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

KILLS = 20
ROWS = 120


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster that outlives its drivers."""
    cluster = Cluster(
        initialize_head=True,
        shutdown_at_exit=False,
        head_node_args={"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False},
    )
    yield cluster.address
    cluster.shutdown()


def start(recipe: Path, address: str) -> subprocess.Popen[str]:
    """Start a driver in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.synthesize", str(recipe), "--address", address],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(recipe: Path, address: str) -> None:
    """Run a driver to its end."""
    driver = start(recipe, address)
    output, _ = driver.communicate(timeout=120)
    assert driver.returncode == 0, output


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_planned_row_once_after_twenty_kills(tmp_path: Path, address: str) -> None:
    finish(write_recipe(tmp_path, "calm", ROWS), address)
    recipe = write_recipe(tmp_path, "stormy", ROWS, in_flight=4, seconds=0.15)
    rng = random.Random(20)
    for number in range(KILLS):
        driver = start(recipe, address)
        # Half of the kills strike anywhere from the start on, half while rows are written.
        patience = rng.uniform(0.2, 4)
        if number % 2:
            wait_for_replica(tmp_path, number, driver)
            patience = rng.uniform(0.1, 2)
        time.sleep(patience)
        driver.kill()
        driver.wait()
    finish(recipe, address)
    assert dataset(tmp_path, "stormy") == dataset(tmp_path, "calm")
    assert set(item_parts(tmp_path, "stormy").values()) == {1}
    counts = metrics(tmp_path, "stormy")["synthesis"]["items"]
    assert counts["settled"] + counts["failed"] == len(item_parts(tmp_path, "stormy"))
    assert len(events(tmp_path, "stormy", "started")) > KILLS // 2


def wait_for_replica(folder: Path, number: int, driver: subprocess.Popen[str]) -> None:
    """Wait until this driver's replica works."""
    before = len(events(folder, "stormy", "replica_ready"))
    deadline = time.monotonic() + 40
    while len(events(folder, "stormy", "replica_ready")) == before and time.monotonic() < deadline:
        if driver.poll() is not None:
            return
        time.sleep(0.1)


def test_second_driver_is_refused_and_told_who_owns_the_run(tmp_path: Path, address: str) -> None:
    recipe = write_recipe(tmp_path, "owned", 50, seconds=5)
    owner = start(recipe, address)
    try:
        deadline = time.monotonic() + 30
        while not events(tmp_path, "owned", "started") and time.monotonic() < deadline:
            time.sleep(0.1)
        second = start(recipe, address)
        output, _ = second.communicate(timeout=120)
    finally:
        owner.kill()
        owner.wait()
    assert second.returncode == 2
    assert f"pid {owner.pid}" in output
    assert "Traceback" not in output
