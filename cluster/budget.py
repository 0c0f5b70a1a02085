"""The driver's side of the purse: what all replicas together may spend, over crashes and resumes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.lease import Lease
from cluster.purse import Currency
from cluster.spending import Clock, SpendingFile, Spent, read_spent
from cluster.storage import Store

if TYPE_CHECKING:
    from cluster.work import Vitals

__all__ = ["Budget", "Clock", "Spent", "open_budget"]

BLOCKS = 64
"""Parts of a limit that are written ahead one at a time."""
HEADROOM = 0.05
"""Share of what is left that replicas may hold together beyond what they need."""
_REPLICAS = 16
"""Headroom is shared out as if there were at least so many replicas: more may come."""
_DUST = 1e-9


@dataclass(slots=True)
class _Account:
    """One replica: what it was granted, has spent, and needs for calls under way and waiting."""

    granted: list[float]
    used: list[float]
    needs: list[float]
    idle: int = 0
    """Times in a row that it was heard to work on nothing, given nothing and to have spent nothing."""
    quiet: bool = False
    """Whether it had no call at all when last heard."""
    resting: bool = False
    """Whether it is quiet, and there was no work for it when it asked."""
    short: int | None = None
    """The currency that holds its calls back and of which nothing is left."""


class Budget:
    """Grants replicas what they may spend, so that all grants ever made never add up to more than the limits.

    What replicas may spend is on record in `spending.json` before they may: a block of 1/64 of a limit is
    written ahead at a time. When the driver crashes, the next sitting counts the open block and all that
    was granted as spent, though it may not have been; at a clean end the true figures are written.
    """

    def __init__(
        self,
        store: Store,
        currencies: Sequence[Currency],
        limits: tuple[float, ...],
        spent: Spent,
        lease: Lease | None = None,
    ) -> None:
        self.currencies = tuple(currencies)
        self._limits = list(limits)
        self._blocks = [limit / BLOCKS for limit in limits]
        self._names = [each.name for each in self.currencies]
        self._closed = [spent.amounts.get(name, 0.0) for name in self._names]
        self._accounts: dict[str, _Account] = {}
        self._ended: dict[str, list[float]] = {}
        self._file = SpendingFile(store, spent, lease)
        self._file.amounts.update(zip(self._names, self._closed, strict=True))
        self.clock = Clock(self._file)

    @property
    def spent(self) -> Mapping[str, float]:
        """What was spent in each currency, as far as it was heard; what died replicas held counts whole."""
        return {name: self._spent(n) for n, name in enumerate(self._names)}

    @property
    def committed(self) -> Mapping[str, float]:
        """What was spent, and what was granted and may still be spent, in each currency."""
        return {name: self._committed(n) for n, name in enumerate(self._names)}

    def set_limit(self, currency: str, amount: float) -> None:
        """Change a limit from now on; grants stand, and a currency that is not counted is left alone."""
        if currency in self._names:
            self._limits[self._names.index(currency)] = max(0.0, amount)

    def grant(self, replica: str) -> tuple[float, ...]:
        """Return what a replica may spend in all since it was loaded, in each currency."""
        account = self._accounts.get(replica)
        if account is None:
            account = self._accounts[replica] = self._open(replica)
            self._enlarge(account, [min(self._share(n), self._left(n)) for n in range(len(self._names))])
        account.resting = False
        return tuple(account.granted)

    def hear(self, replica: str, vitals: "Vitals") -> None:
        """Take in what a replica has spent and wants, and enlarge its grant as far as the budget allows."""
        account = self._accounts.get(replica)
        if account is None or len(vitals.used) != len(self._names) or not self._names:
            return
        used = [max(known, now) for known, now in zip(account.used, vitals.used, strict=True)]
        progress = used != account.used or vitals.running + vitals.waiting > 0
        account.used = used
        given = [self._gift(account, n, vitals) for n in range(len(self._names))]
        moved = self._enlarge(account, given) and any(given)
        account.quiet = vitals.running + vitals.waiting + vitals.blocked == 0
        account.idle = 0 if progress or moved else account.idle + 1
        account.short = next(
            (n for n, want in enumerate(vitals.wanted) if want > given[n] and not self._left(n)), None
        )

    def rest(self, replica: str) -> None:
        """Hear that there is no work for a replica just now: if it has none left, it cannot go on."""
        if (account := self._accounts.get(replica)) is not None:
            account.resting = account.quiet

    def close(self, replica: str, vitals: "Vitals | None") -> None:
        """End a replica's account: what it did not use returns; all it was granted is spent when it died.

        A replica that ended in good order may come back: its purse has let go of what it did not use.
        """
        account = self._accounts.pop(replica, None)
        if account is None:
            return
        known = vitals is not None and len(vitals.used) == len(self._names)
        last = vitals.used if vitals is not None and known else account.granted
        spent = [max(a, b) for a, b in zip(last, account.used, strict=True)]
        self._closed = [a + b for a, b in zip(self._closed, spent, strict=True)]
        if known:
            self._ended[replica] = spent

    def exhausted(self) -> str | None:
        """Name the currency of which nothing is left and without which no replica can go on; None if one can.

        While calls are under way anywhere none is named: they mostly cost less than was set aside for them,
        and what is left over lets other calls start.
        """
        accounts = self._accounts.values()
        if not accounts:
            return next((name for n, name in enumerate(self._names) if not self._left(n)), None)
        short = next((each.short for each in accounts if each.short is not None), None)
        # Heard twice, because a call that has just got its turn is not in the engine yet.
        if short is None or self._left(short) or any(not a.resting and a.idle < 2 for a in accounts):
            return None
        return self._names[short]

    def save(self) -> None:
        """Write what is spent and what is granted to replicas that are still there; nothing written ahead."""
        self._file.amounts.update(self.committed)
        self._file.write()

    def close_all(self) -> None:
        """End all accounts that are still open as if their replicas had died, and write the true figures."""
        for replica in list(self._accounts):
            self.close(replica, None)
        self.save()

    def _open(self, replica: str) -> _Account:
        """Return the account of a replica that is new, or that comes back with what it had spent."""
        spent = self._ended.pop(replica, [0.0 for _ in self._names])
        self._closed = [a - b for a, b in zip(self._closed, spent, strict=True)]
        return _Account(list(spent), list(spent), [0.0 for _ in spent])

    def _gift(self, account: _Account, n: int, vitals: "Vitals") -> float:
        """Return what to add to a grant: what is wanted, and headroom so that few calls need to wait."""
        left, share, wanted = self._left(n), self._share(n), vitals.wanted[n]
        if wanted > 0:
            account.needs[n] = account.granted[n] + wanted - account.used[n]
        # Where not all can be met, one replica must not take everything; one call of it shall fit.
        fair = max(left / len(self._accounts), wanted / max(1, vitals.blocked))
        given = min(wanted, fair, left)
        ahead = account.used[n] + account.needs[n] + share - account.granted[n] - given
        return given + max(0.0, min(share, ahead, left - given))

    def _enlarge(self, account: _Account, given: Sequence[float]) -> bool:
        """Add to a grant once that is on record; False, with the grant as it was, when the store fails."""
        record = self._file.amounts
        needed = {name: self._committed(n) + given[n] for n, name in enumerate(self._names)}
        if any(needed[name] > record[name] for name in needed):
            before = dict(record)
            for name, limit, block in zip(self._names, self._limits, self._blocks, strict=True):
                record[name] = max(needed[name], min(limit, needed[name] + block))
            if not self._file.try_write():
                record.update(before)
                return False
        account.granted = [a + b for a, b in zip(account.granted, given, strict=True)]
        return True

    def _share(self, n: int) -> float:
        """Return the headroom of one replica, which shrinks with what is left."""
        return HEADROOM * max(0.0, self._limits[n] - self._spent(n)) / max(_REPLICAS, len(self._accounts))

    def _left(self, n: int) -> float:
        left = self._limits[n] - self._committed(n)
        return left if left > _DUST * self._limits[n] else 0.0

    def _spent(self, n: int) -> float:
        return self._closed[n] + sum(account.used[n] for account in self._accounts.values())

    def _committed(self, n: int) -> float:
        return self._closed[n] + sum(account.granted[n] for account in self._accounts.values())


def open_budget(
    store: Store,
    currencies: Sequence[Currency],
    limits: tuple[float, ...],
    ledger_cost: tuple[float, ...],
    lease: Lease | None = None,
) -> Budget:
    """Return the budget of a sitting; spent already is what the ledger's rows cost, or, if more, the record.

    With a lease, a driver that lost it grants nothing more (LeaseLost). StorageError when `spending.json`
    is damaged.
    """
    spent = read_spent(store)
    amounts = dict(spent.amounts)
    for currency, cost in zip(currencies, ledger_cost, strict=True):
        amounts[currency.name] = max(cost, amounts.get(currency.name, 0.0))
    return Budget(store, currencies, limits, Spent(amounts, spent.gpu_seconds, spent.seconds), lease)
