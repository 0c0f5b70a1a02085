"""How many processes and processors a training or a prediction takes of the Ray cluster."""

import time
from dataclasses import dataclass

import ray

_ROWS_PER_WORKER = 4
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Worker processes, and the CPUs and GPUs of each."""

    workers: int
    cpus: int
    gpus: int


def placement(workers: int | None, batch_size: int) -> Placement:
    """Return where to train: one worker per GPU while each gets 4 rows of a batch, or one on CPU.

    Without GPUs the workers share the free processors of the largest node.
    """
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus:
        fitting = max(1, min(gpus, batch_size // _ROWS_PER_WORKER))
        return Placement(workers or fitting, cpus=1, gpus=1)
    count = workers or 1
    return Placement(count, cpus=max(1, _free_cpus() // count), gpus=0)


def _free_cpus() -> int:
    """Return the CPUs of the largest node, or what is free if another job keeps some."""
    total = int(ray.cluster_resources().get("CPU", 1))
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # What an earlier stage held is given back a moment after that stage has ended.
    while (free := int(ray.available_resources().get("CPU", 0))) < total and time.monotonic() < deadline:
        time.sleep(0.1)
    return min(largest, free)
