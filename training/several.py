"""Several trainings as one job: as many at a time as each get a share of the cluster."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.errors import NightshiftError
from cluster.storage import Store
from training.records import StudentReport, Wording
from training.settings import StudentSettings
from training.student import train_student


@dataclass(frozen=True, slots=True)
class Wanted:
    """A training that is wanted: how, on which rows, and in which folder of the store it is left."""

    settings: StudentSettings
    rows: pa.Table
    key: str
    wording: Wording | None = None
    """How the task is put to a causal student."""


def train_all(
    wanted: Sequence[Wanted],
    labels: Sequence[str],
    store: Store,
    at_once: int | None = None,
) -> Iterator[StudentReport]:
    """Train students, side by side where there is room, and yield their reports as they end.

    Each is `train_student`: what is finished is taken as it is, and what was begun is gone on with. The first
    one that fails ends the others. at_once is by default as many as each get a GPU, or without GPUs a node.
    """
    together = min(len(wanted), at_once or _room(wanted))
    if together <= 1:
        for each in wanted:
            yield train_student(each.rows, labels, each.settings, store, each.key, each.wording)
        return
    yield from _side_by_side(wanted, labels, store, together)


def _room(wanted: Sequence[Wanted]) -> int:
    """Return how many trainings can have workers of their own."""
    import ray

    most = max(each.settings.most_workers for each in wanted)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    # Without GPUs a training has all processors of a node to do; two of them would only share these.
    return max(1, (gpus or sum(node["Alive"] for node in ray.nodes())) // most)


def _side_by_side(
    wanted: Sequence[Wanted], labels: Sequence[str], store: Store, together: int
) -> Iterator[StudentReport]:
    """Keep so many trainings under way, each driven by a task of its own that needs no processor."""
    import ray

    drive = ray.remote(_train_there).options(num_cpus=0)
    rows: dict[int, Any] = {}
    waiting, running = list(wanted), list[Any]()
    try:
        while waiting or running:
            while waiting and len(running) < together:
                each = waiting.pop(0)
                if id(each.rows) not in rows:
                    rows[id(each.rows)] = ray.put(each.rows)
                given = (rows[id(each.rows)], tuple(labels), each.settings, store, each.key, each.wording)
                running.append(drive.remote(*given, together))
            (ended,), running = ray.wait(running, num_returns=1)
            outcome = ray.get(ended)
            if isinstance(outcome, NightshiftError):
                raise outcome
            yield outcome
    finally:
        for task in running:
            ray.cancel(task, force=False)


def _train_there(
    rows: pa.Table,
    labels: Sequence[str],
    settings: StudentSettings,
    store: Store,
    key: str,
    wording: Wording | None,
    together: int,
) -> StudentReport | NightshiftError:
    """Train one of several students; an error on purpose is a result, which Ray would wrap otherwise."""
    try:
        return train_student(rows, labels, settings, store, key, wording, together)
    except NightshiftError as error:
        return error
