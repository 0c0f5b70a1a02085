"""Merging parts changes how many files there are and nothing else, wherever it is interrupted."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import ledger as ledger_module
from cluster.errors import LeaseLost
from cluster.lease import Lease, acquire
from cluster.ledger import Ledger, part_count, read_ledger, read_part
from cluster.storage import LocalStore

SCHEMA = pa.schema([("item_id", pa.string()), ("part", pa.int64())])
MERGED = 3
PARTS = 8


@pytest.fixture(autouse=True, scope="module")
def small_merges() -> Iterator[None]:
    """Merge three parts at a time instead of 64."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "COMPACT_PARTS", MERGED)
        yield


class Killed(BaseException):
    """The process ends here."""


class Mortal(LocalStore):
    """A store whose user is killed at a certain change, before or after the change is made."""

    def __init__(self, root: Path, calls: int, after: bool) -> None:
        super().__init__(root)
        self.calls = calls
        self.after = after

    def create(self, key: str, data: bytes) -> bool:
        self._step(before=True)
        created = super().create(key, data)
        self._step(before=False)
        return created

    def delete(self, key: str) -> None:
        self._step(before=True)
        super().delete(key)
        self._step(before=False)

    def _step(self, before: bool) -> None:
        if before:
            self.calls -= 1
        if self.calls < 0 and before != self.after:
            raise Killed


def commit(ledger: Ledger, number: int, items: list[str]) -> None:
    """Commit one part whose rows know their part."""
    given = [{"item_id": item, "part": number} for item in items]
    ledger.commit([pa.RecordBatch.from_pylist(given, schema=SCHEMA)])


def begun(store: LocalStore, parts: int = PARTS) -> Ledger:
    """A ledger with so many parts of two rows and nothing merged."""
    ledger = Ledger(store, acquire(store), SCHEMA)
    for number in range(parts):
        commit(ledger, number, [f"{number}-a", f"{number}-b"])
    return ledger


def found(store: LocalStore) -> list[tuple[str, int]]:
    """(item, part) of every row that counts."""
    return [(row["item_id"], row["part"]) for table in read_ledger(store) for row in table.to_pylist()]


def take_over(store: LocalStore, lease: Lease) -> Lease:
    """Take the lease while its owner, who still believes in it, sleeps."""
    store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps({"time": 0, "released": False}).encode())
    return acquire(store)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 11))
def test_merging_keeps_every_row_in_its_place_in_fewer_files(parts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        ledger = begun(store, parts)
        before = found(store)
        ledger.compact()
        assert found(store) == before
        merges = (parts - 1) // MERGED
        assert part_count(store) == len(store.list("ledger")) == parts - merges * (MERGED - 1)
        commit(ledger, parts, ["later"])
        assert found(store) == [*before, ("later", parts)]


def test_a_merged_part_stays_small_enough_to_be_read_and_a_large_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "COMPACT_ROWS", 5)
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    for number, rows in enumerate([2, 2, 2, 9, 1, 1, 1, 1, 1]):
        commit(ledger, number, [f"{number}-{row}" for row in range(rows)])
    before = found(store)
    ledger.compact()
    assert found(store) == before
    sizes = [read_part(store, key).num_rows for key in store.list("ledger")]
    assert max(size for size in sizes if size != 9) <= 5 and len(sizes) < 9 and 9 in sizes


# Eight parts are merged twice, and each time one part is made and three are deleted.
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("calls", range(9))
def test_a_death_at_any_step_loses_and_doubles_nothing(tmp_path: Path, calls: int, after: bool) -> None:
    store = LocalStore(tmp_path)
    ledger = begun(store)
    before = found(store)
    ledger.store = Mortal(tmp_path, calls, after)
    with pytest.raises(Killed) if calls < 8 else contextlib.nullcontext():
        ledger.compact()
    assert found(store) == before
    heir = Ledger(store, take_over(store, ledger.lease), SCHEMA)
    assert found(store) == before
    for number in range(MERGED + 1):
        commit(heir, number, [f"heir-{number}"])
    heir.compact()
    assert found(store) == [*before, *((f"heir-{n}", n) for n in range(MERGED + 1))]


def test_an_item_found_twice_has_its_first_rows_after_merging_as_before(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = begun(store, MERGED - 1)
    commit(ledger, MERGED, ["0-a", "new"])
    commit(ledger, MERGED + 1, ["last"])
    before = found(store)
    ledger.compact()
    assert found(store) == before


def test_a_driver_that_lost_its_lease_takes_no_rows_away(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    zombie = begun(store, MERGED - 1)
    before = found(store)
    # A takeover within ten seconds of a renewal: clocks that differ, or one host name in two containers.
    take_over(store, zombie.lease)
    commit(zombie, 8, ["late"])
    commit(zombie, 9, ["later"])
    with contextlib.suppress(LeaseLost):
        zombie.compact()
    assert found(store) == before
