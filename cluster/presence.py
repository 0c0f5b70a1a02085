"""Who works on a run, or worked on it last, as its lease tells anyone who only looks."""

import json
import re
import socket
import time
from dataclasses import dataclass

from cluster.storage import Store

TTL_SECONDS = 30.0
"""A driver without a sign of life for so long has lost its run."""


@dataclass(frozen=True, slots=True)
class Sitting:
    """One driver's time with a run; moments are in seconds since 1970."""

    epoch: int
    host: str
    pid: int
    began: float
    beat: float
    """The last sign of life."""
    released: bool
    """Whether the driver ended in good order."""
    alive: bool


def key_of(kind: str, epoch: int) -> str:
    """Return the key of an epoch's file: `epoch` says who owns it, `beat` when they were last heard of."""
    return f"lease/{kind}-{epoch:06d}.json"


def newest_epoch(store: Store) -> int:
    """Return the highest epoch that was ever claimed; 0 before the first."""
    numbers = [int(match[1]) for key in store.list("lease") if (match := re.search(r"epoch-(\d+)", key))]
    return max(numbers, default=0)


def last_sitting(store: Store) -> Sitting | None:
    """Return the newest sitting of a run; None when there was none."""
    epoch = newest_epoch(store)
    return read_sitting(store, epoch) if epoch else None


def read_sitting(store: Store, epoch: int, ttl: float = TTL_SECONDS) -> Sitting:
    """Return one sitting; StorageError when there was none of this epoch."""
    owner = json.loads(store.read(key_of("epoch", epoch)))
    beat = {"time": owner["time"], "released": False}
    if store.exists(key_of("beat", epoch)):
        beat = json.loads(store.read(key_of("beat", epoch)))
    fresh = not beat["released"] and time.time() - beat["time"] <= ttl
    return Sitting(
        epoch=epoch,
        host=owner["host"],
        pid=owner["pid"],
        began=owner["time"],
        beat=beat["time"],
        released=beat["released"],
        alive=fresh and _there(owner["host"], owner["pid"], owner["process_started"]),
    )


def _there(host: str, pid: int, started: float) -> bool:
    """Say whether a driver's process exists; one on another machine is taken at its heartbeat's word."""
    if host != socket.gethostname():
        return True
    # On this very machine the process table knows better than the heartbeat.
    import psutil

    try:
        return bool(abs(psutil.Process(pid).create_time() - started) < 1)
    except psutil.NoSuchProcess:
        return False
