"""The cache of a node: one download for all, whole files only, bounded, and clear when there is no room."""

import errno
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster import s3_cache
from cluster.errors import SettingsError, StorageError
from cluster.storage import Store
from tests.s3_faults import FaultyS3


def ages(cache: Path) -> list[str]:
    """Return the names of what the cache holds, last used first."""
    kept = [path for path in (cache / "objects").iterdir() if not path.name.startswith(".")]
    return [next(path.iterdir()).name for path in sorted(kept, key=lambda p: -p.stat().st_mtime)]


def test_what_was_fetched_is_fetched_once_for_each_version(s3: FaultyS3, s3_store: Store) -> None:
    s3_store.write("a/x", b"old")
    first = s3_store.fetch("a/x")
    gets = s3.served["GET"]
    assert s3_store.fetch("a/x") == first and s3.served["GET"] == gets
    s3_store.write("a/x", b"new")
    assert (s3_store.fetch("a/x").read_bytes(), first.read_bytes()) == (b"new", b"old")
    folder = s3_store.fetch("a")
    s3_store.write("a/y", b"")
    assert [path.name for path in sorted(s3_store.fetch("a").iterdir())] == ["x", "y"]
    assert [path.name for path in folder.iterdir()] == ["x"]


def test_many_who_fetch_at_once_share_one_download(s3: FaultyS3, s3_store: Store) -> None:
    content = os.urandom(20 * 2**20)
    s3_store.write("x", content)
    gets = s3.served["GET"]
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(s3_store.fetch, ["x"] * 8))
    assert len(paths) == 1 and paths.pop().read_bytes() == content
    assert s3.served["GET"] == gets + 3


def test_a_damaged_file_is_fetched_anew(s3_store: Store) -> None:
    s3_store.write("x", b"content")
    s3_store.fetch("x").write_bytes(b"")
    assert s3_store.fetch("x").read_bytes() == b"content"
    shutil.rmtree(s3_store.fetch("x").parent)
    assert s3_store.fetch("x").read_bytes() == b"content"


def test_the_cache_stays_below_its_bound_by_dropping_what_was_used_longest_ago(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_CACHE_GB", "0.003")
    for name in "abc":
        s3_store.write(name, bytes(10**6))
    hour = time.time() - 3600
    for age, name in enumerate("abc"):
        os.utime(s3_store.fetch(name).parent, (hour + age, hour + age))
    assert s3_store.fetch("a").exists()
    s3_store.write("d", bytes(10**6))
    s3_store.fetch("d")
    assert set(ages(tmp_path / "cache")) == {"a", "c", "d"}
    s3_store.write("e", bytes(5 * 10**6))
    s3_store.fetch("e")
    # What somebody may be about to open stays, whatever the bound says.
    assert set(ages(tmp_path / "cache")) == {"a", "d", "e"}


def test_what_a_killed_download_left_goes_after_a_day(s3_store: Store, tmp_path: Path) -> None:
    s3_store.write("x", b"1")
    left = [tmp_path / "cache" / "objects" / name for name in (".old.1", ".new.1")]
    for path in left:
        (path / "x").mkdir(parents=True)
    os.utime(left[0], (time.time() - 10**5,) * 2)
    s3_store.fetch("x")
    assert [path.exists() for path in left] == [False, True]


def test_a_full_disk_is_named_and_nothing_half_written_stays(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("x", bytes(100))

    def full(*given: Any) -> None:
        given[-1].write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("cluster.s3_store.download", full)
    with pytest.raises(StorageError, match=r"the disk is full \(No space left on device\)") as error:
        s3_store.fetch("x")
    cache = tmp_path / "cache" / "objects"
    assert str(cache) in str(error.value) and "NIGHTSHIFT_CACHE_GB" in str(error.value)
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".lock")] == []


def test_a_disk_that_fills_up_is_named_and_nothing_half_written_stays(
    s3_store: Store, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f'mount -t tmpfs -o size=9m tmpfs {small} && exec "$@"'
    space = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("no file system may be mounted here")
    for number in range(3):
        s3_store.write(f"folder/{number}", os.urandom(4 * 2**20))
    code = (
        "import sys; from pathlib import Path; from cluster.errors import StorageError;"
        "from cluster.storage import place; store = place(sys.argv[1]); store.fetch('folder/0');\n"
        "try: store.fetch('folder')\nexcept StorageError as error: print(error)\n"
        "print(*(path.name for path in Path(sys.argv[2]).rglob('*') if not path.name.startswith('.')))"
    )
    done = subprocess.run(
        [*space, sys.executable, "-c", code, s3_store.url, str(small)],
        cwd=Path(__file__).parents[3],
        env=os.environ | {"NIGHTSHIFT_CACHE": str(small), "NIGHTSHIFT_CACHE_GB": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    told, left = done.stdout.splitlines()
    assert told.startswith(f"cache {small}/objects: the disk is full (No space left on device); free space")
    assert re.fullmatch("objects [0-9a-f]{32} 0", left)


def test_a_cache_that_can_not_be_made_is_named(
    s3_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write("x", b"")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="set NIGHTSHIFT_CACHE to a folder you may write"):
        s3_store.fetch("x")


@pytest.mark.parametrize("bound", ["much", "-1", "nan", "inf"])
def test_a_bound_that_is_no_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_CACHE_GB", bound)
    with pytest.raises(SettingsError, match=f"NIGHTSHIFT_CACHE_GB: '{bound}' is no number of gigabytes"):
        s3_cache.cache_bytes(tmp_path)
    monkeypatch.delenv("NIGHTSHIFT_CACHE_GB")
    assert s3_cache.cache_bytes(tmp_path) == shutil.disk_usage(tmp_path).total // 2
