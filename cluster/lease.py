"""The lease on a run folder: one owner at a time, each with a higher epoch than the last.

`lease/epoch-N.json` is claimed by a conditional put, `lease/beat-N.json` is its heartbeat, and
`lease/inherits-N.json` says up to which part of every earlier epoch the ledger holds: whatever an
earlier owner writes after that is ignored.
"""

import json
import logging
import os
import re
import socket
import threading
import time
from dataclasses import dataclass, field

import psutil

from cluster.errors import LeaseError, LeaseLost, StorageError
from cluster.presence import TTL_SECONDS, key_of, newest_epoch, read_sitting
from cluster.storage import Store

log = logging.getLogger(__name__)
_PART = re.compile(r"part-(\d+)-(\d+)(?:\+(\d+))?\.parquet$")


@dataclass
class Lease:
    """The right to write to a run folder, held under one epoch."""

    store: Store
    epoch: int
    ttl: float = TTL_SECONDS
    _renewed: float = field(default=0.0, repr=False)
    _lost: LeaseLost | None = field(default=None, repr=False)

    def renew(self, force: bool = False) -> None:
        """Beat the heart when a third of the lease has passed; LeaseLost when a later epoch exists."""
        if self._lost is not None:
            raise self._lost
        now = time.time()
        if not force and now - self._renewed < self.ttl / 3:
            return
        newest = newest_epoch(self.store)
        if newest > self.epoch:
            self._lost = LeaseLost(
                f"{self.store.url}: {describe(self.store, newest)} took this run over; this driver stops "
                "and its unwritten rows are made again there"
            )
            raise self._lost
        self._beat(released=False)
        self._renewed = now

    def keep(self, until: threading.Event) -> None:
        """Renew until an event is set or the lease is lost; for a thread beside long stages."""
        while not until.wait(self.ttl / 6):
            try:
                self.renew()
            except LeaseLost as lost:
                # Kept in `_lost`: the next commit or renewal of the driver itself raises it.
                log.error("%s", lost)
                return
            except StorageError as error:
                log.warning("the lease could not be renewed and is tried again: %s", error)

    def release(self) -> None:
        """Give the lease up, so that the next driver need not wait."""
        if newest_epoch(self.store) == self.epoch:
            self._beat(released=True)

    def _beat(self, released: bool) -> None:
        beat = {"time": time.time(), "released": released}
        self.store.write(key_of("beat", self.epoch), json.dumps(beat).encode())


def acquire(store: Store, ttl: float = TTL_SECONDS) -> Lease:
    """Take the lease of a run folder; LeaseError names a living owner."""
    newest = newest_epoch(store)
    if newest and read_sitting(store, newest, ttl).alive:
        raise _owned(store, newest)
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_started": psutil.Process().create_time(),
        "time": time.time(),
    }
    if not store.create(key_of("epoch", newest + 1), json.dumps(owner).encode()):
        raise _owned(store, newest + 1)
    lease = Lease(store, newest + 1, ttl)
    lease.renew(force=True)
    watermarks = json.dumps(_watermarks(store, store.list("ledger"))).encode()
    store.write(key_of("inherits", lease.epoch), watermarks)
    return lease


def valid_parts(store: Store) -> list[str]:
    """Return the keys of the ledger parts that count, in name order.

    Parts that a compacted part covers and parts an earlier owner wrote after losing its lease are left out.
    """
    keys = store.list("ledger")
    limits = _inherited(store)
    newest = max(limits, default=0) if limits else 0
    places = {key: place for key in keys if (place := part_place(key)) is not None}
    held = {
        key: (epoch, first, last)
        for key, (epoch, first, last) in places.items()
        if epoch > newest or last <= limits.get(epoch, 0)
    }
    covered = {
        (epoch, n) for epoch, first, last in held.values() if last > first for n in range(first, last + 1)
    }
    return [
        key for key, (epoch, first, last) in held.items() if first < last or (epoch, first) not in covered
    ]


def part_place(key: str) -> tuple[int, int, int] | None:
    """Return (epoch, first, last) sequence numbers of a ledger part's name; None for other files."""
    match = _PART.search(key)
    if match is None:
        return None
    first = int(match[2])
    return int(match[1]), first, int(match[3] or first)


def describe(store: Store, epoch: int) -> str:
    """Name the owner of an epoch for a message."""
    owner = json.loads(store.read(key_of("epoch", epoch)))
    return f"the driver on {owner['host']} (pid {owner['pid']}, epoch {epoch})"


def _inherited(store: Store) -> dict[int, int]:
    """Return the last valid sequence number of each epoch before the newest takeover."""
    names = [key for key in store.list("lease") if "inherits-" in key]
    if not names:
        return {}
    return {int(epoch): last for epoch, last in json.loads(store.read(names[-1])).items()}


def _watermarks(store: Store, keys: list[str]) -> dict[str, int]:
    """What the ledger holds at a takeover: the last sequence number of every earlier epoch."""
    earlier = _inherited(store)
    marks: dict[int, int] = dict(earlier)
    newest = max(earlier, default=0)
    for key in keys:
        place = part_place(key)
        if place is not None and place[0] > newest:
            marks[place[0]] = max(marks.get(place[0], 0), place[2])
    # An epoch that wrote nothing is marked too, so that what its owner writes later is ignored.
    for epoch in range(1, newest_epoch(store)):
        marks.setdefault(epoch, 0)
    return {str(epoch): last for epoch, last in sorted(marks.items())}


def _owned(store: Store, epoch: int) -> LeaseError:
    return LeaseError(
        f"{store.url}: is owned by {describe(store, epoch)}; wait for it, stop it, or give this run another "
        f"name with --set run=NAME"
    )
