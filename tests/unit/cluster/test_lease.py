import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.errors import LeaseError, LeaseLost, StorageError
from cluster.lease import Lease, acquire
from cluster.storage import LocalStore


def age_beat(store: LocalStore, lease: Lease, seconds: float) -> None:
    """Make the heartbeat of a lease so old."""
    beat = {"time": time.time() - seconds, "released": False}
    store.write(f"lease/beat-{lease.epoch:06d}.json", json.dumps(beat).encode())


def change_owner(store: LocalStore, lease: Lease, **changes: Any) -> None:
    """Let the lease be that of another machine or process."""
    key = f"lease/epoch-{lease.epoch:06d}.json"
    store.write(key, json.dumps(json.loads(store.read(key)) | changes).encode())


def take_over(store: LocalStore, lease: Lease) -> Lease:
    """Take the lease while its owner, who still believes in it, sleeps."""
    age_beat(store, lease, 3600)
    return acquire(store)


def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "run")
    acquire(store)
    with pytest.raises(LeaseError) as error:
        acquire(store)
    told = str(error.value)
    assert f"{socket.gethostname()} (pid {os.getpid()}, epoch 1)" in told
    assert str(tmp_path / "run") in told and "--set run=" in told
    assert error.value.exit_code == 2


@pytest.mark.parametrize(("age", "free"), [(25, False), (35, True)])
def test_an_owner_elsewhere_holds_the_lease_until_its_beat_is_stale(
    tmp_path: Path, age: float, free: bool
) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    # The pid says nothing about a process of another machine.
    change_owner(store, lease, host="far-away", pid=2**22 + 1)
    age_beat(store, lease, age)
    if free:
        assert acquire(store).epoch == 2
    else:
        with pytest.raises(LeaseError, match="the driver on far-away"):
            acquire(store)


def test_an_owner_whose_pid_is_free_or_taken_by_another_loses_the_lease(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as child:
        gone = {"pid": child.pid}
    for changes in (gone, {"process_started": psutil.Process().create_time() - 60}):
        store = LocalStore(tmp_path / "-".join(changes))
        change_owner(store, acquire(store), **changes)
        assert acquire(store).epoch == 2


def test_a_claim_without_a_beat_yet_is_respected(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    store.delete(f"lease/beat-{lease.epoch:06d}.json")
    with pytest.raises(LeaseError):
        acquire(store)


def test_the_epoch_grows_with_every_release_and_every_takeover(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    epochs = [(lease := acquire(store)).epoch]
    for released in (True, False, True, True, False):
        if released:
            lease.release()
        lease = acquire(store) if released else take_over(store, lease)
        epochs.append(lease.epoch)
    assert epochs == [1, 2, 3, 4, 5, 6]


def test_of_two_who_claim_at_once_the_second_is_refused(tmp_path: Path) -> None:
    class Overtaken(LocalStore):
        def create(self, key: str, data: bytes) -> bool:
            acquire(LocalStore(self.root))
            return super().create(key, data)

    with pytest.raises(LeaseError, match="epoch 1"):
        acquire(Overtaken(tmp_path))
    assert len([key for key in LocalStore(tmp_path).list("lease") if "epoch-" in key]) == 1


def test_who_lost_the_lease_is_told_by_whom_and_can_not_give_it_away(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    zombie = acquire(store)
    zombie.ttl = 0
    take_over(store, zombie)
    for _ in range(2):
        with pytest.raises(LeaseLost, match=f"pid {os.getpid()}, epoch 2"):
            zombie.renew()
    zombie.release()
    with pytest.raises(LeaseError):
        acquire(store)


def test_a_renewal_beats_only_when_a_third_of_the_lease_has_passed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    lease = acquire(store)
    age_beat(store, lease, 20)
    beat = f"lease/beat-{lease.epoch:06d}.json"
    before = store.read(beat)
    lease.renew()
    assert store.read(beat) == before
    lease._renewed -= lease.ttl / 3
    lease.renew()
    assert json.loads(store.read(beat))["time"] == pytest.approx(time.time(), abs=5)


def test_the_heartbeat_outlives_a_failing_store_and_ends_with_the_lease(tmp_path: Path) -> None:
    class Flaky(LocalStore):
        failures = 2

        def write(self, key: str, data: bytes) -> None:
            self.failures -= 1
            if self.failures >= 0:
                raise StorageError("no space left")
            super().write(key, data)

    lease = acquire(LocalStore(tmp_path), ttl=0.12)
    store = lease.store = Flaky(tmp_path)
    beating = threading.Thread(target=lease.keep, args=(threading.Event(),), daemon=True)
    beating.start()
    first, deadline = store.read("lease/beat-000001.json"), time.monotonic() + 10
    while store.read("lease/beat-000001.json") == first:
        assert time.monotonic() < deadline
    store.create("lease/epoch-000002.json", store.read("lease/epoch-000001.json"))
    beating.join(5)
    assert not beating.is_alive()
    with pytest.raises(LeaseLost):
        lease.renew()
