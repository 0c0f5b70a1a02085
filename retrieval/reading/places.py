"""Where corpus files lie: local paths and objects of a store, listed and opened alike."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cluster.errors import DataError
from cluster.storage import place


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is there: its URL, its path below the folder asked for, bytes, and the store's version."""

    url: str
    below: str
    size: int
    version: str


def is_remote(url: str) -> bool:
    """Say whether a URL leads to an object store."""
    return "://" in url and not url.startswith("file://")


def files_at(url: str) -> list[Found]:
    """Return the file at a URL, or those below it in name order, without hidden ones; DataError if absent."""
    found = list(_remote(url) if is_remote(url) else _local(Path(url.removeprefix("file://")).expanduser()))
    if not found and (is_remote(url) or not Path(url.removeprefix("file://")).expanduser().is_dir()):
        raise DataError(f"corpus {url}: there is no such file or folder; check corpus.path")
    return sorted(found, key=lambda file: file.below)


def open_file(url: str) -> BinaryIO:
    """Open a file for reading; DataError or StorageError when that fails."""
    if is_remote(url):
        bucket, key = _split(url)
        return place(bucket).open(key)
    try:
        return Path(url).open("rb")
    except OSError as error:
        raise unreadable(url, error) from error


def unreadable(url: str, error: OSError) -> DataError:
    """Return the error of a file that the system will not read."""
    return DataError(f"{url}: cannot be read ({error.strerror or error}); check the path and the file")


def _local(path: Path) -> Iterator[Found]:
    root = Path(os.path.normpath(path.absolute()))
    try:
        for file in sorted(root.rglob("*")) if root.is_dir() else [root]:
            below = file.relative_to(root)
            if file.is_file() and not any(part.startswith(".") for part in below.parts):
                status = file.stat()
                shown = below.as_posix() if file != root else file.name
                yield Found(str(file), shown, status.st_size, str(status.st_mtime_ns))
    except OSError as error:
        raise unreadable(str(path), error) from error


def _remote(url: str) -> Iterator[Found]:
    bucket, prefix = _split(url)
    for entry in place(bucket).entries(prefix):
        below = entry.key.removeprefix(prefix).strip("/") or entry.key.rpartition("/")[2]
        yield Found(f"{bucket}/{entry.key}", below, entry.size, entry.version)


def _split(url: str) -> tuple[str, str]:
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    return f"{scheme}://{bucket}", key.strip("/")
