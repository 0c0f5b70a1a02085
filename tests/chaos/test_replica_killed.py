"""Replicas may die, freeze or meet poison: the run goes on and its dataset is the same."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil
import pytest

from cluster.errors import TooManyFailures
from cluster.progress import Progress
from cluster.rundir import owned, read_metrics
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.chaos.runs import dataset, events, item_parts, metrics, write_recipe

pytestmark = pytest.mark.usefixtures("ray_local")


def run(recipe: Path) -> int:
    """Run the synthesize job in this process on the session's Ray."""
    plan = check(load_recipe(recipe))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within(plan.recipe.run)
    with owned(store) as lease:
        return synthesize.run(Stage(plan, root, Progress(store), store, lease))


def kill_replicas(stop: threading.Event, killed: list[int], every: float, most: int) -> None:
    """Kill replica processes, one at a time, until told to stop."""
    while not stop.wait(every) and len(killed) < most:
        # Ray runs below this process: no other Ray of the machine is touched.
        children = psutil.Process().children(recursive=True)
        replicas = [child.pid for child in children if "ray::Worker" in " ".join(child.cmdline())]
        for pid in replicas[:1]:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)


def test_dataset_is_the_same_when_replicas_die(tmp_path: Path) -> None:
    assert run(write_recipe(tmp_path, "calm", 60)) == 0
    stop, killed = threading.Event(), list[int]()
    killer = threading.Thread(target=kill_replicas, args=(stop, killed, 3.0, 3))
    killer.start()
    recipe = write_recipe(tmp_path, "stormy", 60, replicas=2, num_cpus=0.5, in_flight=4, seconds=0.25)
    try:
        assert run(recipe) == 0
    finally:
        stop.set()
        killer.join()
    assert killed
    # A replica may be killed while it loads.
    lost = [len(events(tmp_path, "stormy", f"replica_{end}")) for end in ("lost", "failed_to_start")]
    assert sum(lost) == len(killed)
    assert metrics(tmp_path, "stormy")["synthesis"]["restarts"] == lost[0]
    assert metrics(tmp_path, "stormy")["synthesis"]["items"]["failed"] == 0
    assert dataset(tmp_path, "stormy") == dataset(tmp_path, "calm")
    assert set(item_parts(tmp_path, "stormy").values()) == {1}


@pytest.mark.parametrize(
    ("misdeed", "reason"),
    [
        ({"die_on": "seed 3 of sports"}, "its replica was lost"),
        ({"hang_on": "seed 3 of sports", "hang_timeout": 5}, "no sign of life"),
        ({"stall_on": "seed 3 of sports", "item_timeout": 1}, "no reply within"),
        ({"raise_on": "seed 3 of sports"}, "the script says: fail"),
    ],
    ids=["die", "hang", "stall", "raise"],
)
def test_poison_is_set_aside_and_no_innocent_with_it(
    tmp_path: Path, misdeed: dict[str, object], reason: str
) -> None:
    recipe = write_recipe(tmp_path, "poisoned", 30, seeds=18, replicas=1, **misdeed)
    assert run(recipe) == 0
    store = LocalStore(tmp_path / "store" / "poisoned")
    from cluster.ledger import read_ledger

    rows = [row for table in read_ledger(store) for row in table.to_pylist()]
    failed = [row for row in rows if row["status"] == "failed"]
    assert failed
    assert all(reason in row["reason"] for row in failed)
    seed = next(s.id for s in check(load_recipe(recipe)).task.seeds if s.text == "seed 3 of sports")
    assert {row["item_id"] for row in failed} == {
        row["item_id"] for row in rows if seed in (row["shot_ids"] or [])
    }
    told = read_metrics(store)
    if "its replica" in reason or "sign of life" in reason:
        # Aboard with others, then as a suspect, then twice alone.
        assert told["synthesis"]["restarts"] >= 4 * len(failed)
    assert told["dataset"]["per_label"] == dict.fromkeys(("sports", "politics", "science"), 30)


def test_run_stops_when_too_much_fails(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, "hopeless", 100, raise_on="Write")
    began = time.monotonic()
    with pytest.raises(TooManyFailures, match="the script says: fail"):
        run(recipe)
    assert time.monotonic() - began < 180
    assert item_parts(tmp_path, "hopeless"), "what failed is in the ledger all the same"
