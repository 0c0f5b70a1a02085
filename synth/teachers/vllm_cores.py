"""Keeps a replica off the cores that the compute threads of vLLM's CPU build are bound to."""

import os
from collections.abc import Iterator
from contextlib import suppress

import psutil


def keep_off_bound_cores() -> None:
    """Move this process off the cores that threads of its children are bound to, where that leaves it any.

    A bound thread cannot move away when a replica wakes on its core, and the engine's step waits for it.
    """
    mine = os.sched_getaffinity(0)
    left = mine.difference(*(cores for cores in _cores_of_children() if cores < mine))
    if not left or left == mine:
        return
    for thread in psutil.Process().threads():
        with suppress(ProcessLookupError):  # It ended meanwhile.
            os.sched_setaffinity(thread.id, left)


def _cores_of_children() -> Iterator[set[int]]:
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            for thread in child.threads():
                with suppress(ProcessLookupError):
                    yield os.sched_getaffinity(thread.id)
