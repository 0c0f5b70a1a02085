"""Which parts of the ledger count, whoever wrote them when."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.lease import Lease, acquire, part_place, valid_parts
from cluster.storage import LocalStore


def take_over(store: LocalStore, lease: Lease) -> Lease:
    """Take the lease while its owner, who still believes in it, sleeps."""
    store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps({"time": 0, "released": False}).encode())
    return acquire(store)


def part(epoch: int, number: int, last: int | None = None) -> str:
    """Name of a ledger part."""
    return f"ledger/part-{epoch:06d}-{number:06d}{f'+{last:06d}' if last else ''}.parquet"


def write(store: LocalStore, *keys: str) -> None:
    """Put empty parts there."""
    for key in keys:
        assert store.create(key, b"")


def test_what_a_zombie_writes_after_the_takeover_is_ignored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    zombie = acquire(store)
    write(store, part(1, 1), part(1, 2))
    take_over(store, zombie)
    write(store, part(1, 3), part(2, 1))
    assert valid_parts(store) == [part(1, 1), part(1, 2), part(2, 1)]


def test_an_owner_that_wrote_nothing_in_time_adds_nothing_later(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    take_over(store, acquire(store))
    write(store, part(1, 1))
    assert valid_parts(store) == []


def test_watermarks_are_inherited_over_several_takeovers(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    write(store, part(1, 1))
    lease = take_over(store, lease)
    write(store, part(1, 2), part(2, 1), part(2, 2))
    lease = take_over(store, lease)
    write(store, part(1, 3), part(2, 3))
    lease = take_over(store, lease)
    write(store, part(3, 1), part(4, 1))
    take_over(store, lease)
    assert valid_parts(store) == [part(1, 1), part(2, 1), part(2, 2), part(4, 1)]


# None is a takeover; a number picks which of the drivers so far, dead or alive, writes its next part.
@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | st.integers(0, 3), max_size=14))
def test_exactly_the_parts_written_by_the_owner_of_the_moment_count(steps: list[int | None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        lease = acquire(store)
        numbers, expected = {1: 0}, []
        for step in steps:
            if step is None:
                lease = take_over(store, lease)
                numbers[lease.epoch] = 0
                continue
            epoch = max(1, lease.epoch - step)
            numbers[epoch] += 1
            write(store, part(epoch, numbers[epoch]))
            if epoch == lease.epoch:
                expected.append(part(epoch, numbers[epoch]))
            assert valid_parts(store) == sorted(expected)
        take_over(store, lease)
        assert valid_parts(store) == sorted(expected)


def test_a_driver_that_dies_between_claim_and_inheritance_costs_no_part(tmp_path: Path) -> None:
    class Dying(LocalStore):
        def write(self, key: str, data: bytes) -> None:
            if "inherits" in key:
                raise KeyboardInterrupt
            super().write(key, data)

    store = LocalStore(tmp_path)
    lease = acquire(store)
    write(store, part(1, 1))
    lease = take_over(store, lease)
    write(store, part(1, 2), part(2, 1))
    lease.release()
    with pytest.raises(KeyboardInterrupt):
        acquire(Dying(tmp_path))
    assert valid_parts(store) == [part(1, 1), part(2, 1)]
    take_over(store, Lease(store, 3))
    assert valid_parts(store) == [part(1, 1), part(2, 1)]


def test_a_merged_part_stands_for_those_it_covers_and_for_no_others(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    acquire(store)
    write(store, *(part(1, n) for n in range(1, 6)), part(1, 2, 3), part(2, 2))
    assert valid_parts(store) == [part(1, 1), part(1, 2, 3), part(1, 4), part(1, 5), part(2, 2)]


def test_a_merged_part_that_does_not_count_hides_no_part_that_does(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    zombie = acquire(store)
    write(store, part(1, 1), part(1, 2))
    take_over(store, zombie)
    write(store, part(1, 3), part(1, 1, 3))
    assert valid_parts(store) == [part(1, 1), part(1, 2)]


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("ledger/part-000002-000007.parquet", (2, 7, 7)),
        ("ledger/part-000002-000001+000064.parquet", (2, 1, 64)),
        ("ledger/part-1000000-000001.parquet", (1_000_000, 1, 1)),
        ("ledger/notes.txt", None),
        ("ledger/part-000002-000007.parquet.bak", None),
        ("ledger/part-000002.parquet", None),
    ],
)
def test_the_place_of_a_part_is_read_from_its_name(key: str, place: tuple[int, int, int] | None) -> None:
    assert part_place(key) == place


def test_files_that_are_no_parts_are_left_alone(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    acquire(store)
    write(store, "ledger/notes.txt", part(1, 1))
    assert valid_parts(store) == [part(1, 1)]
