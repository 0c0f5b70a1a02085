"""How many processes and processors a training or a prediction takes of the Ray cluster."""

import time
from dataclasses import dataclass

import ray

from training.optimisation import Workers

_ROWS_PER_WORKER = 4
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Placement:
    """Worker processes, and the CPUs and GPUs of each."""

    workers: Workers
    """Their number, or the fewest and the most of them."""
    cpus: int
    gpus: int


def placement(workers: Workers | None, batch_size: int, together: int = 1) -> Placement:
    """Return where to train: one worker per GPU while each gets 4 rows of a batch, or one on CPU.

    Without GPUs the workers share the free processors of the largest node. `together` trainings at a time
    share the cluster.
    """
    most = workers if isinstance(workers, int) or workers is None else workers[1]
    gpus = int(ray.cluster_resources().get("GPU", 0))
    if gpus:
        fitting = max(1, min(gpus // together, batch_size // _ROWS_PER_WORKER))
        return Placement(workers or fitting, cpus=1, gpus=1)
    free = _free_cpus() if together == 1 else _largest_node() // together
    return Placement(workers or 1, cpus=max(1, free // (most or 1)), gpus=0)


def _largest_node() -> int:
    return max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])


def _free_cpus() -> int:
    """Return the CPUs of the largest node, or what is free if another job keeps some."""
    total = int(ray.cluster_resources().get("CPU", 1))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    # What an earlier stage held is given back a moment after that stage has ended.
    while (free := int(ray.available_resources().get("CPU", 0))) < total and time.monotonic() < deadline:
        time.sleep(0.1)
    return min(_largest_node(), free)
