"""Retrieval's work on the cluster: errors come back as they were raised."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from cluster.errors import NightshiftError

TRIES = 10
"""How often a task is tried anew when its worker or node dies."""

# A worker with an environment of its own is shared by tasks of that environment alone, so FAISS never
# meets torch, whose CUDA and OpenMP libraries are of other versions, in one process.
FAISS_ENVIRONMENT = {"env_vars": {"NIGHTSHIFT_WORKER": "faiss", "OMP_NUM_THREADS": "1"}}


@contextmanager
def own_errors() -> Iterator[None]:
    """Raise the error of Nightshift's that a Ray error carries, free of Ray's wrapping."""
    try:
        yield
    except Exception as error:
        cause = _carried(error)
        if cause is None:
            raise
        raise cause from None


def _carried(error: BaseException | None) -> NightshiftError | None:
    while error is not None:
        cause = getattr(error, "cause", None)
        for candidate in (cause, error):
            # Ray's own wrapper is a subclass of what it wraps, and holds the worker's traceback as its text.
            if isinstance(candidate, NightshiftError) and not hasattr(candidate, "traceback_str"):
                return candidate
        error = cause if isinstance(cause, BaseException) else error.__cause__
    return None


def completed(submit: Callable[[Any], Any], work: Iterable[Any], at_once: int) -> Iterator[tuple[Any, Any]]:
    """Submit work as Ray tasks, at most so many at once, and yield (work, result) as they end.

    The first error ends it, as it was raised; tasks still running are cancelled.
    """
    import ray

    waiting = iter(work)
    running: dict[Any, Any] = {}
    try:
        while True:
            for unit in islice(waiting, at_once - len(running)):
                running[submit(unit)] = unit
            if not running:
                return
            (ended,), _ = ray.wait(list(running), num_returns=1)
            unit = running.pop(ended)
            with own_errors():
                result = ray.get(ended)
            yield unit, result
    finally:
        for reference in running:
            ray.cancel(reference)
