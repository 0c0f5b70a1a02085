"""What is fetched from an object store lies in a cache of the node that all its processes share.

Below `objects` in NIGHTSHIFT_CACHE (or ~/.cache/nightshift), one folder for each version of each object or
folder. The cache is kept below NIGHTSHIFT_CACHE_GB (half of its disk unless set) by removing what was used
longest ago; what was used within the last quarter of an hour stays, for somebody may be about to open it.
"""

import errno
import fcntl
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cluster.errors import SettingsError, StorageError
from cluster.models import model_cache
from cluster.settings import digest
from cluster.store import Entry

KEEP_SECONDS = 15 * 60
"""What was used so recently is not pruned."""
_ABANDONED_SECONDS = 24 * 3600
_LOCKS = 64


def cached(origin: str, url: str, files: Sequence[Entry], fill: Callable[[Path], None]) -> Path:
    """Return a local path with what url of origin holds now, calling fill if no process here has fetched it.

    origin is the endpoint. files are those of a folder, with keys relative to url; or one with the empty
    key, when url is an object. fill writes them to the path it is given.
    StorageError when the cache cannot be written or its disk is full.
    """
    cache = cache_folder()
    name = digest([origin, url, [[file.key, file.version] for file in files]])
    kept = cache / name
    target = kept / (url.rpartition("/")[2] or "store")
    with _writable(cache):
        # Marked as in use first: whoever prunes looks at the mark last.
        with suppress(FileNotFoundError):
            os.utime(kept)
        if _is_whole(target, files):
            return target
        with _locked(cache, name):
            if not _is_whole(target, files):
                shutil.rmtree(kept, ignore_errors=True)
                prune(cache, cache_bytes(cache) - sum(file.size for file in files))
                _fill(cache, kept, target, fill)
    return target


def cache_folder() -> Path:
    """Return the folder of fetched objects."""
    return model_cache().with_name("objects")


def cache_bytes(cache: Path) -> int:
    """Return how large the cache may grow."""
    text = os.environ.get("NIGHTSHIFT_CACHE_GB")
    if not text:
        return shutil.disk_usage(cache).total // 2
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not size >= 0 or math.isinf(size):
        raise SettingsError(f"NIGHTSHIFT_CACHE_GB: {text!r} is no number of gigabytes")
    return int(size * 1e9)


def prune(cache: Path, limit: int) -> None:
    """Remove what was used longest ago until the rest is no larger than limit bytes."""
    now = time.time()
    found = []
    for folder in cache.iterdir():
        with suppress(FileNotFoundError):  # Another process prunes too.
            used = folder.stat().st_mtime
            if folder.name.startswith("."):
                if folder.is_dir() and now - used > _ABANDONED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
            else:
                found.append((used, _size(folder), folder))
    total = sum(size for _, size, _ in found)
    for used, size, folder in sorted(found, key=lambda each: each[0]):
        if total <= limit or now - used < KEEP_SECONDS:
            return
        _remove(folder, used)
        total -= size


def _remove(folder: Path, used: float) -> None:
    grave = folder.with_name(f".gone-{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        if folder.stat().st_mtime == used:  # Not taken into use since.
            folder.rename(grave)
    shutil.rmtree(grave, ignore_errors=True)


def _fill(cache: Path, kept: Path, target: Path, fill: Callable[[Path], None]) -> None:
    temporary = cache / f".{kept.name}.{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        fill(temporary / target.name)
        temporary.rename(kept)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_whole(target: Path, files: Sequence[Entry]) -> bool:
    # Renamed into place when complete; but a power cut may leave the names and lose the bytes.
    try:
        return all((target / file.key).stat().st_size == file.size for file in files)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


@contextmanager
def _writable(cache: Path) -> Iterator[None]:
    try:
        cache.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = (
            "free space there, lower NIGHTSHIFT_CACHE_GB, or set NIGHTSHIFT_CACHE to a folder on a larger one"
            if full
            else "set NIGHTSHIFT_CACHE to a folder you may write"
        )
        what = "the disk is full" if full else "what is fetched cannot be kept there"
        raise StorageError(f"cache {cache}: {what} ({error.strerror}); {remedy}") from error


@contextmanager
def _locked(cache: Path, name: str) -> Iterator[None]:
    """Let one process at a time download a thing; the kernel drops the lock with the process."""
    number = int(name, 16) % _LOCKS
    with (cache / f".lock-{number:02d}").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
