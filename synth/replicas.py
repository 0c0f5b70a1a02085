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
        num_gpus=_gpus(teacher),
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

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = _gpus(teacher)
    if gpus:
        return max(1, sum(int(node.get("GPU", 0) / gpus) for node in nodes))
    return max(1, sum(node.get("CPU", 0) >= max(teacher.num_cpus, 1) for node in nodes))


def _gpus(teacher: TeacherSettings) -> float:
    """GPUs a replica reserves on this cluster."""
    import ray

    if teacher.num_gpus is not None:
        return teacher.num_gpus
    return teacher.gpus() if ray.cluster_resources().get("GPU") else 0.0
