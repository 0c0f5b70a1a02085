"""Teacher replicas as Ray actors, and how many of them a cluster holds."""

from collections.abc import Callable
from typing import Any

from cluster.pool import PoolSettings
from synth.teacher import TeacherSettings
from synth.worker import Assignment, Worker

ACTOR_CONCURRENCY = 16
"""Calls an actor takes at once: an exchange, and beside it a drop; items are coroutines of its own."""


def pool_settings(teacher: TeacherSettings) -> PoolSettings:
    """Return the shape of the pool on the cluster that this process is connected to."""
    return PoolSettings(
        replicas=teacher.replicas or _places(teacher),
        in_flight=teacher.in_flight,
        hang_timeout=teacher.hang_timeout,
    )


def starter(assignment: Assignment) -> Callable[[int], Any]:
    """Return the function that starts one replica actor."""
    import ray

    teacher = assignment.teacher
    actor: Any = ray.remote(
        num_cpus=teacher.num_cpus,
        num_gpus=teacher.num_gpus,
        max_restarts=0,
        max_concurrency=ACTOR_CONCURRENCY,
        # One replica on every node before a second on any.
        scheduling_strategy="SPREAD",
        # Threads that spin while they wait make a shared machine crawl: 30 times slower has been seen.
        runtime_env={"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}},
    )(Worker)
    body = ray.put(assignment)
    return lambda index: actor.remote(body)


def _places(teacher: TeacherSettings) -> int:
    """One replica per share of GPUs it reserves; without GPUs, one on every node with enough CPUs."""
    import ray

    if teacher.num_gpus:
        return max(1, int(ray.cluster_resources().get("GPU", 0) / teacher.num_gpus))
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return max(1, sum(node.get("CPU", 0) >= max(teacher.num_cpus, 1) for node in nodes))
