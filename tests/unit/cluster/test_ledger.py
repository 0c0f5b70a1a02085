import json
import threading
from collections.abc import Generator
from pathlib import Path

import pyarrow as pa
import pytest

from cluster import ledger as ledger_module
from cluster.errors import LeaseLost, StorageError
from cluster.lease import Lease, acquire
from cluster.ledger import Ledger, part_count, read_ledger, read_part
from cluster.storage import LocalStore, Store

SCHEMA = pa.schema([("row_id", pa.int64()), ("text", pa.string()), ("item_id", pa.string())])


def rows(text: str, *items: str) -> pa.RecordBatch:
    """One row for each item."""
    given = [{"row_id": n, "text": text, "item_id": item} for n, item in enumerate(items)]
    return pa.RecordBatch.from_pylist(given, schema=SCHEMA)


def found(store: Store) -> list[tuple[str, str]]:
    """(item, text) of every row that counts."""
    return [(row["item_id"], row["text"]) for table in read_ledger(store) for row in table.to_pylist()]


def take_over(store: LocalStore, lease: Lease) -> Lease:
    """Take the lease while its owner, who still believes in it, sleeps."""
    store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps({"time": 0, "released": False}).encode())
    return acquire(store)


def test_rows_come_back_as_they_were_given_in_the_order_of_their_commits(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    keys = [ledger.commit([rows("first", "a", "b"), rows("and", "c")]), ledger.commit([rows("second", "d")])]
    assert keys == ["ledger/part-000001-000001.parquet", "ledger/part-000001-000002.parquet"]
    tables = list(read_ledger(store))
    assert [table.schema.remove_metadata() for table in tables] == [SCHEMA, SCHEMA]
    assert found(store) == [("a", "first"), ("b", "first"), ("c", "and"), ("d", "second")]
    assert read_part(store, keys[0]).num_rows == 3


def test_a_run_without_parts_has_no_rows(tmp_path: Path) -> None:
    assert list(read_ledger(LocalStore(tmp_path))) == []
    assert part_count(LocalStore(tmp_path)) == 0


def test_of_an_item_found_twice_the_first_part_in_name_order_wins(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = acquire(store)
    older = Ledger(store, first, SCHEMA)
    older.commit([rows("one", "a", "b")])
    older.commit([rows("two", "b", "c", "c")])
    Ledger(store, take_over(store, first), SCHEMA).commit([rows("three", "c", "a", "d")])
    assert found(store) == [("a", "one"), ("b", "one"), ("c", "two"), ("c", "two"), ("d", "three")]


def test_items_are_told_apart_though_their_column_is_not_asked_for(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    ledger.commit([rows("one", "a")])
    ledger.commit([rows("two", "a", "b")])
    (table,) = read_ledger(store, ["text"])
    assert table.column_names == ["item_id", "text"]
    assert table["text"].to_pylist() == ["one", "two"]


@pytest.mark.parametrize("batch", [1, 3, 8192])
def test_parts_read_ahead_come_in_name_order_and_the_first_of_an_item_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(ledger_module, "BATCH_ROWS", batch)
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    for number in range(40):
        ledger.commit([rows(str(number), f"item {number}", f"item {number}", f"item {number % 7}")])
    tables = list(read_ledger(store, ["text"]))
    assert len(tables) == {1: 40, 3: 40, 8192: 1}[batch]
    pairs = [(row["item_id"], row["text"]) for table in tables for row in table.to_pylist()]
    assert pairs == found(store)
    assert pairs == [(f"item {n}", str(n)) for n in range(40) for _ in range(3 if n < 7 else 2)]


def test_reading_that_is_given_up_ends_its_readers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    for number in range(30):
        ledger.commit([rows("text", str(number))])
    reading = read_ledger(store, ["text"])
    next(reading)
    assert isinstance(reading, Generator)
    reading.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ledger")]


def test_a_driver_that_lost_its_lease_commits_nothing(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store, ttl=0)
    ledger = Ledger(store, lease, SCHEMA)
    ledger.commit([rows("one", "a")])
    take_over(store, lease)
    for _ in range(2):
        with pytest.raises(LeaseLost, match="epoch 2"):
            ledger.commit([rows("late", "b")])
    assert store.list("ledger") == ["ledger/part-000001-000001.parquet"]


def test_a_commit_that_slips_through_after_a_takeover_is_not_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    zombie = Ledger(store, lease, SCHEMA)
    zombie.commit([rows("one", "a")])
    owner = Ledger(store, take_over(store, lease), SCHEMA)
    zombie.commit([rows("late", "b")])
    owner.commit([rows("again", "b")])
    assert found(store) == [("a", "one"), ("b", "again")]


def test_a_part_is_never_overwritten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    Ledger(store, lease, SCHEMA).commit([rows("one", "a")])
    with pytest.raises(LeaseLost, match=r"part-000001-000001\.parquet: was written by another driver"):
        Ledger(store, lease, SCHEMA).commit([rows("two", "b")])
    assert found(store) == [("a", "one")]


def test_a_damaged_part_is_named_with_the_remedy(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    key = Ledger(store, acquire(store), SCHEMA).commit([rows("one", "a")])
    store.write(key, store.read(key)[:-20])
    with pytest.raises(
        StorageError, match=r"part-000001-000001\.parquet: is damaged .* restore it or remove"
    ):
        list(read_ledger(store))


def test_rows_of_another_schema_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    ledger = Ledger(store, acquire(store), SCHEMA)
    with pytest.raises(pa.ArrowInvalid):
        ledger.commit([pa.RecordBatch.from_pylist([{"item_id": "a"}])])
    assert store.list("ledger") == []
