"""How many replicas a cluster holds, and what each asks for."""

import math
from pathlib import Path
from typing import Any

import pytest
import ray

from synth import replicas
from synth.methods.fewgen import FewGenSettings
from synth.replicas import RayFleet
from synth.task import load_task
from synth.teachers.scripted import ScriptedSettings
from synth.worker import Assignment

TASK = Path(__file__).parents[3] / "jobs" / "recipes" / "demo" / "task.yaml"


class Machines:
    """What Ray would say of a cluster: nodes by name, those told to go, those its autoscaler may start."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.nodes: dict[str, dict[str, float]] = {}
        self.draining: dict[str, int] = {}
        self.to_come: list[dict[str, float]] = []
        monkeypatch.setattr(ray, "nodes", self._list)
        monkeypatch.setattr(ray, "cluster_resources", lambda: {"GPU": self._total()} if self._total() else {})
        monkeypatch.setattr(replicas, "_draining", lambda: self.draining)
        monkeypatch.setattr(replicas, "_to_come", lambda: self.to_come)

    def fleet(self, **teacher: Any) -> RayFleet:
        settings = ScriptedSettings(**teacher)
        return RayFleet(Assignment(load_task(TASK, Path()), FewGenSettings(), settings, settings.check()))

    def _list(self) -> list[dict[str, Any]]:
        dead = {"NodeID": "dead", "Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}
        return [dead] + [{"NodeID": n, "Alive": True, "Resources": r} for n, r in self.nodes.items()]

    def _total(self) -> float:
        return sum(node.get("GPU", 0) for node in self.nodes.values())


@pytest.fixture
def machines(monkeypatch: pytest.MonkeyPatch) -> Machines:
    return Machines(monkeypatch)


@pytest.mark.parametrize(
    ("teacher", "places", "asks"),
    [
        ({}, 3, "1 CPUs"),
        ({"num_cpus": 8}, 2, "8 CPUs"),
        ({"num_cpus": 99}, 1, "99 CPUs"),
        ({"num_gpus": 1}, 6, "1 CPUs and 1 GPUs"),
        ({"needs_gpus": 1}, 6, "1 CPUs and 1 GPUs"),
        ({"needs_gpus": 2}, 3, "1 CPUs and 2 GPUs"),
        ({"needs_gpus": 3}, 1, "1 CPUs and 3 GPUs"),
        ({"needs_gpus": 6}, 1, "1 CPUs and 6 GPUs on several nodes"),
        ({"needs_gpus": 6, "num_gpus": 0}, 3, "1 CPUs"),
        ({"num_gpus": 0.25, "num_cpus": 0.5}, 24, "0.5 CPUs and 0.25 GPUs"),
        # Two shares of 0.4 of one GPU, not five of two GPUs; and CPUs run out too.
        ({"num_gpus": 0.4, "num_cpus": 0}, 12, "0 CPUs and 0.4 GPUs"),
        ({"num_gpus": 1, "num_cpus": 5}, 4, "5 CPUs and 1 GPUs"),
        ({"num_gpus": 1, "replicas": 40}, 40, "1 CPUs and 1 GPUs"),
    ],
)
def test_places_follow_what_a_replica_asks_for(
    machines: Machines, teacher: dict[str, Any], places: int, asks: str
) -> None:
    machines.nodes = {
        "head": {"CPU": 0.0},
        "plain": {"CPU": 4.0},
        "small": {"CPU": 8.0, "GPU": 2.0},
        "large": {"CPU": 16.0, "GPU": 4.0},
    }
    fleet = machines.fleet(**teacher)
    assert (fleet.places(), fleet.asks()) == (places, asks)


def test_nodes_that_are_to_go_have_no_places(machines: Machines, monkeypatch: pytest.MonkeyPatch) -> None:
    machines.nodes = {name: {"CPU": 4.0, "GPU": 2.0} for name in "abc"}
    fleet = machines.fleet(num_gpus=1)
    machines.draining = {"a": 0, "b": 1_000_000}
    monkeypatch.setattr("synth.replicas.time.time", lambda: 990.0)
    assert fleet.places() == 2
    assert fleet.leaving() == {"a": math.inf, "b": 10.0}
    assert fleet.alive("a") and not fleet.alive("dead") and not fleet.alive("unknown")


def test_gpus_of_nodes_that_may_come_count_as_there(machines: Machines) -> None:
    machines.nodes = {"head": {"CPU": 0.0}}
    machines.to_come = [{"CPU": 8.0, "GPU": 4.0}]
    fleet = machines.fleet(needs_gpus=8)
    assert fleet.gpus == 8 and fleet.places() == 1
    assert fleet.asks().endswith("8 GPUs on several nodes")


def test_what_was_once_seen_of_a_node_that_is_gone_still_tells_the_shape(machines: Machines) -> None:
    machines.nodes = {"a": {"CPU": 8.0, "GPU": 4.0}}
    fleet = machines.fleet(needs_gpus=4)
    assert fleet.places() == 1
    machines.nodes = {"b": {"CPU": 8.0, "GPU": 2.0}}
    assert fleet.places() == 1 and "several" not in fleet.asks()
