"""Runs in an object store that fails all the time: nothing is lost, nothing doubled, one owner only."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from cluster import ledger as ledger_module
from cluster.errors import FingerprintError, LeaseError, LeaseLost
from cluster.lease import Lease, acquire
from cluster.ledger import Ledger, part_count, read_ledger
from cluster.progress import Progress
from cluster.rundir import check_fingerprint, owned, read_metrics, read_run, record_run, update_metrics
from cluster.storage import Store, place
from tests.s3_faults import FaultyS3

SCHEMA = pa.schema([("item_id", pa.string()), ("number", pa.int64())])
RATE = 0.25


@pytest.fixture
def stormy(s3: FaultyS3, s3_store: Store) -> Store:
    """A store of whose requests every fourth fails."""
    s3.rate = RATE
    return s3_store


def commit(ledger: Ledger, number: int) -> None:
    """Commit a part of two rows."""
    rows = [{"item_id": f"{number}-{name}", "number": number} for name in "ab"]
    ledger.commit([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)])


def found(store: Store) -> list[str]:
    """Return the items that count, in order."""
    return [item for table in read_ledger(store) for item in table["item_id"].to_pylist()]


def expected(*numbers: int) -> list[str]:
    """Return the items of parts."""
    return [f"{number}-{name}" for number in numbers for name in "ab"]


def stale(store: Store, lease: Lease) -> None:
    """Let the owner of a lease seem dead."""
    store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps({"time": 0, "released": False}).encode())


def test_parts_are_committed_merged_and_inherited_once(
    s3: FaultyS3, stormy: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "COMPACT_PARTS", 4)
    first = Ledger(stormy, acquire(stormy), SCHEMA)
    for number in range(6):
        commit(first, number)
    first.compact()
    assert part_count(stormy) == 3
    stale(stormy, first.lease)
    heir = Ledger(stormy, acquire(stormy), SCHEMA)
    # The dead owner was asleep only: what it writes now belongs to nobody.
    first.lease._renewed = 1e12
    commit(first, 99)
    for number in range(6, 12):
        commit(heir, number)
    heir.compact()
    assert found(stormy) == expected(*range(12))
    first.lease._renewed = 0
    with pytest.raises(LeaseLost, match="epoch 2"):
        commit(first, 100)
    heir.lease.release()
    assert acquire(stormy).epoch == 3
    assert s3.struck["cut after"] and s3.struck["500 after"] and s3.struck["cut body"]


def test_of_many_drivers_one_owns_the_run(stormy: Store) -> None:
    def claim(_: int) -> Lease | None:
        try:
            return acquire(stormy)
        except LeaseError:
            return None

    with ThreadPoolExecutor(8) as pool:
        leases = [lease for lease in pool.map(claim, range(8)) if lease is not None]
    assert [lease.epoch for lease in leases] == [1]
    assert [key for key in stormy.list("lease") if "epoch" in key] == ["lease/epoch-000001.json"]


def test_a_run_folder_is_kept_as_on_a_disk(stormy: Store) -> None:
    with owned(stormy) as lease:
        record_run(stormy, "one", {"a": 1})
        assert check_fingerprint(stormy, "synthesize", {"a": 1}) is True
        assert check_fingerprint(stormy, "synthesize", {"a": 1}) is False
        with pytest.raises(FingerprintError, match=f"{stormy.url}: was begun with other settings"):
            check_fingerprint(stormy, "synthesize", {"a": 2})
        update_metrics(stormy, one=1)
        update_metrics(stormy, two=2)
        progress = Progress(stormy)
        for number in range(20):
            progress.event("counted", number=number)
        with pytest.raises(LeaseError, match=rf"{stormy.url}: is owned by .* epoch {lease.epoch}\)"):
            acquire(stormy)
    assert read_run(stormy)["run"] == "one" and read_metrics(stormy) == {"one": 1, "two": 2}
    lines = stormy.read("events.jsonl").decode().splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(20))


def test_the_heart_beats_beside_the_work(stormy: Store) -> None:
    lease, ended = acquire(stormy, ttl=0.3), threading.Event()
    beating = threading.Thread(target=lease.keep, args=(ended,), daemon=True)
    beating.start()
    ledger = Ledger(place(stormy.url), lease, SCHEMA)
    for number in range(10):
        commit(ledger, number)
    ended.set()
    beating.join(10)
    assert found(stormy) == expected(*range(10))
