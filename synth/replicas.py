"""Teacher replicas as Ray actors: what each reserves, and how many of them the cluster holds."""

import math
import time
from collections.abc import Collection, Mapping
from typing import Any

from synth.teacher import TeacherSettings
from synth.worker import Assignment, Worker

ACTOR_CONCURRENCY = 16
"""Calls an actor takes at once: an exchange, and beside it a drop; items are coroutines of its own."""
# Threads that spin while they wait make a shared machine crawl: 30 times slower has been seen.
ENVIRONMENT = {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}


class RayFleet:
    """Replicas on the cluster that this process is connected to.

    A replica that needs more GPUs than any node has gets a placement group: bundles of one GPU each, and one
    of CPUs where its actor lives. Any other is a plain actor on one node.
    """

    def __init__(self, assignment: Assignment) -> None:
        import ray

        self.gpus = _gpus(assignment.teacher)
        """GPUs a replica reserves."""
        self._assignment = assignment
        self._teacher = assignment.teacher
        self._largest = 0.0
        """GPUs of the largest node there was or may come."""
        self._groups: dict[Any, Any] = {}
        decorate: Any = ray.remote(max_restarts=0, max_concurrency=ACTOR_CONCURRENCY, runtime_env=ENVIRONMENT)
        self._actor = decorate(Worker)

    def places(self) -> int:
        """One per share of GPUs a replica reserves; without GPUs, one on every node with enough CPUs."""
        teacher, nodes = self._teacher, self._staying()
        if teacher.replicas is not None:
            return teacher.replicas
        if not self.gpus:
            return max(1, sum(node.get("CPU", 0) >= max(teacher.num_cpus, 1) for node in nodes))
        if self._spans_nodes():
            return max(1, int(sum(node.get("GPU", 0) for node in nodes) // math.ceil(self.gpus)))
        return max(1, sum(min(self._by_gpus(node), self._by_cpus(node)) for node in nodes))

    def start(self) -> Any:
        import ray

        cpus = self._teacher.num_cpus
        self._staying()
        # The assignment is given as it is: lost with an object store, it would be the end of all restarts.
        if not self._spans_nodes():
            # One replica on every node before a second on any.
            options = {"num_cpus": cpus, "num_gpus": self.gpus, "scheduling_strategy": "SPREAD"}
            return self._actor.options(**options).remote(self._assignment)
        bundles = [{"CPU": max(cpus, 1.0)}, *({"GPU": 1.0} for _ in range(math.ceil(self.gpus)))]
        group = ray.util.placement_group(bundles, strategy="PACK")
        inside = ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            placement_group=group, placement_group_bundle_index=0, placement_group_capture_child_tasks=True
        )
        options = {"num_cpus": cpus, "num_gpus": 0, "scheduling_strategy": inside}
        replica = self._actor.options(**options).remote(self._assignment)
        self._groups[replica] = group
        return replica

    def end(self, replica: Any) -> None:
        import ray

        ray.kill(replica, no_restart=True)
        group = self._groups.pop(replica, None)
        if group is not None:
            ray.util.remove_placement_group(group)

    def asks(self) -> str:
        gpus = f" and {self.gpus:g} GPUs" if self.gpus else ""
        return f"{self._teacher.num_cpus:g} CPUs{gpus}{' on several nodes' if self._spans_nodes() else ''}"

    def nodes(self, replica: Any) -> Collection[str]:
        import ray

        group = self._groups.get(replica)
        return (
            () if group is None else set(ray.util.placement_group_table(group)["bundles_to_node_id"].values())
        )

    def leaving(self) -> Mapping[str, float]:
        now = time.time()
        # Milliseconds since 1970; 0 is a node that was told to go without being told when.
        return {node: at / 1000 - now if at else math.inf for node, at in _draining().items()}

    def alive(self, node: str) -> bool:
        import ray

        return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())

    def _staying(self) -> list[Mapping[str, float]]:
        """Return the resources of the nodes that are alive and not told to go."""
        import ray

        draining = _draining()
        alive = {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        sizes = [node.get("GPU", 0.0) for node in (*alive.values(), *_to_come())]
        self._largest = max(self._largest, *sizes, 0.0)
        return [resources for node, resources in alive.items() if node not in draining]

    def _spans_nodes(self) -> bool:
        return 0 < self._largest < self.gpus

    def _by_gpus(self, node: Mapping[str, float]) -> int:
        gpus = int(node.get("GPU", 0))
        # Shares of different GPUs cannot be put together.
        return gpus * int(1 / self.gpus + 1e-9) if self.gpus < 1 else int(gpus / self.gpus)

    def _by_cpus(self, node: Mapping[str, float]) -> int:
        cpus = self._teacher.num_cpus
        return int(node.get("CPU", 0) / cpus + 1e-9) if cpus else self._by_gpus(node)


def _gpus(teacher: TeacherSettings) -> float:
    """GPUs a replica reserves on this cluster; a node that may yet come with GPUs counts as there."""
    import ray

    if teacher.num_gpus is not None:
        return teacher.num_gpus
    there = ray.cluster_resources().get("GPU") or any(node.get("GPU") for node in _to_come())
    return teacher.gpus() if there else 0.0


def _draining() -> Mapping[str, int]:
    from ray._private.state import state

    return dict(state.get_draining_nodes())


def _to_come() -> list[Mapping[str, float]]:
    """Return the resources of the kinds of nodes that the cluster's autoscaler may start."""
    from ray._private.state import state

    config = state.get_cluster_config()
    return [] if config is None else [dict(group.resources) for group in config.node_group_configs]
