"""What a run has spent, kept in `spending.json` of its folder over all sittings."""

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from cluster.errors import StorageError
from cluster.lease import Lease
from cluster.storage import Store

KEY = "spending.json"
SAVE_SECONDS = 10.0
_HOUR = 3600.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spent:
    """What earlier sittings spent or may have spent: by currency, on GPUs, and in time."""

    amounts: Mapping[str, float] = field(default_factory=dict)
    gpu_seconds: float = 0.0
    seconds: float = 0.0


class Bounds(Protocol):
    """Limits on time and what goes with it; None where there is none."""

    @property
    def money(self) -> float | None: ...
    @property
    def gpu_hours(self) -> float | None: ...
    @property
    def hours(self) -> float | None: ...
    @property
    def gpu_price(self) -> float: ...
    def ends(self, started: float) -> float | None: ...


def read_spent(store: Store) -> Spent:
    """Return what `spending.json` says, nothing before the first sitting; StorageError when it is damaged."""
    if not store.exists(KEY):
        return Spent()
    try:
        data: Any = json.loads(store.read(KEY))
        amounts = {str(name): float(amount) for name, amount in data["amounts"].items()}
        return Spent(amounts, float(data["gpu_seconds"]), float(data["seconds"]))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(
            f"{store.url}/{KEY}: is damaged ({error}), so what the run has spent is unknown; restore the "
            "file, or delete it to count only what the ledger's rows cost"
        ) from error


class SpendingFile:
    """Holds what is on record and writes it as a whole; a lease that was lost forbids it."""

    def __init__(self, store: Store, spent: Spent, lease: Lease | None) -> None:
        self.amounts = dict(spent.amounts)
        self.gpu_seconds = spent.gpu_seconds
        self.seconds = spent.seconds
        self._store = store
        self._lease = lease

    def write(self) -> None:
        """Write the record durably; LeaseLost when another driver took the run over."""
        if self._lease is not None:
            self._lease.renew(force=True)
        data = {"amounts": self.amounts, "gpu_seconds": self.gpu_seconds, "seconds": self.seconds}
        self._store.write(KEY, (json.dumps(data, indent=1) + "\n").encode())

    def try_write(self) -> bool:
        """Write the record, or warn and return False when the store fails."""
        try:
            self.write()
        except StorageError as error:
            log.warning("what the run spends could not be written and is tried again: %s", error)
            return False
        return True


class Clock:
    """Counts GPU-seconds and seconds of generation over all sittings."""

    def __init__(self, file: SpendingFile, started: float | None = None) -> None:
        self.started = time.time() if started is None else started
        """When this sitting began, in seconds since 1970."""
        self._file = file
        self._earlier = file.gpu_seconds, file.seconds
        self._saved = time.monotonic()

    @property
    def gpu_seconds(self) -> float:
        """GPU-seconds of all sittings."""
        return self._file.gpu_seconds

    @property
    def seconds(self) -> float:
        """Seconds of generation of all sittings."""
        return self._file.seconds

    def add(self, gpu_seconds_now: float, seconds_now: float) -> None:
        """Take in what this sitting has used since its start; saved at most every ten seconds."""
        self._file.gpu_seconds = self._earlier[0] + gpu_seconds_now
        self._file.seconds = self._earlier[1] + seconds_now
        now = time.monotonic()
        if now - self._saved >= SAVE_SECONDS:
            self._saved = now
            self._file.try_write()

    def gpu_money(self, limits: Bounds) -> float:
        """Return what the GPUs have cost."""
        return self.gpu_seconds / _HOUR * limits.gpu_price

    def over(self, limits: Bounds, now: float, committed: float = 0.0) -> str | None:
        """Name the limit that is reached, if any; now is in seconds since 1970.

        committed is the money that tokens cost or may still cost (`Budget.committed`): GPUs go on costing
        while replicas use up what they were granted.
        """
        end = limits.ends(self.started)
        money = self.gpu_money(limits)
        reached = {
            "deadline": end is not None and now >= end,
            "hours": limits.hours is not None and self.seconds >= limits.hours * _HOUR,
            "gpu_hours": limits.gpu_hours is not None and self.gpu_seconds >= limits.gpu_hours * _HOUR,
            "money": limits.money is not None and money > 0 and money + committed >= limits.money,
        }
        return next((name for name, there in reached.items() if there), None)
