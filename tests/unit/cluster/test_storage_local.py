"""What a folder does when its user dies or its disk is full."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import LocalStore

ROOT = Path(__file__).parents[3]
FILL = """
import sys
from pathlib import Path
from cluster.errors import StorageError
from cluster.storage import LocalStore

folder, source = Path(sys.argv[1]), Path(sys.argv[2])
store = LocalStore(folder)
store.write("kept", b"old")
store.append("events", b"line\\n")
large = bytes(3 * 2**20)
for use in (
    lambda: store.write("kept", large),
    lambda: store.create("new", large),
    lambda: store.append("events", large),
    lambda: store.upload("file", source / "large"),
    lambda: store.upload("folder", source),
):
    try:
        use()
        raise SystemExit("nothing was refused")
    except StorageError as error:
        print(error)
print(*sorted(path.name for path in folder.rglob("*")))
print(store.read("kept"), store.read("events"))
"""


def test_a_write_that_dies_leaves_the_old_object_and_lists_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write("a/run.json", b"old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(step, die)
            store.write("a/run.json", b"new")
        assert store.read("a/run.json") == b"old"
    assert store.list("a") == ["a/run.json"]


def test_a_refused_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="taken: cannot be written"):
        store.write("taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_an_object_created_leaves_nothing_beside_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert [store.create("lease/epoch-1", claim) for claim in (b"mine", b"yours")] == [True, False]
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["epoch-1"]


def test_an_upload_that_dies_lists_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, copy = LocalStore(tmp_path / "store"), shutil.copytree
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")

    def die(source: Path, target: Path) -> None:
        copy(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", die)
    with pytest.raises(KeyboardInterrupt):
        store.upload("students/s", tmp_path / "model")
    assert store.list("students") == []


def fill(folder: Path, source: Path, *before: str) -> list[str]:
    """Write more to a folder than there is room for; return what is said of it."""
    source.mkdir()
    (source / "large").write_bytes(bytes(3 * 2**20))
    command = [*before, sys.executable, "-c", FILL, str(folder), str(source)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def refused(lines: list[str]) -> list[str]:
    """Check that nothing half-written was left, and return the refusals."""
    *refusals, names, contents = lines
    assert names == "events kept"
    assert contents == f"{b'old'} {b'line' + bytes([10])}"
    return refusals


def test_a_full_disk_is_named_and_nothing_half_written_stays(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs {folder} && exec "$@"'
    space = ["unshare", "-rm", "sh", "-c", mount, "sh"]
    if shutil.which("unshare") is None or subprocess.run([*space, "true"], check=False).returncode:
        pytest.skip("no file system may be mounted here")
    refusals = refused(fill(folder, tmp_path / "source", *space))
    assert [line.split(": ")[0] for line in refusals] == [
        f"{folder}/{name}" for name in ("kept", "new", "events", "file", "folder")
    ]
    assert all("the disk is full (No space left on device)" in line for line in refusals)
    assert all("--set store=PLACE" in line for line in refusals)


def test_a_file_that_may_not_grow_leaves_nothing_half_written(tmp_path: Path) -> None:
    limit = (
        "import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20));"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] in (resource.RLIM_INFINITY, 2**63 - 1)
    refusals = refused(fill(tmp_path / "store", tmp_path / "source", sys.executable, "-c", limit))
    assert all("cannot be written" in line and "File too large" in line for line in refusals)


def test_a_disk_that_is_full_when_it_is_synced_is_named_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write("run.json", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for use in (store.write, store.create):
        with pytest.raises(StorageError, match=r"run\.json: cannot be written, the disk is full"):
            use("run.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
    assert store.read("run.json") == b"old"
