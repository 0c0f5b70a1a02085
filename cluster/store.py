"""What a store can do, wherever it is. Keys are relative, with forward slashes.

Every write of an object is whole or absent: readers never see half of it.
"""

import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from cluster.errors import StorageError


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a store; size in bytes, and a version that changes when the content does."""

    key: str
    size: int
    version: str
    """ETag in an object store, time of the last change in nanoseconds in a folder."""


Entries = list[Entry]
"""Named here because within a store `list` is a method."""


class Store(Protocol):
    """A place that holds immutable and replaceable objects under keys."""

    @property
    def url(self) -> str:
        """Where the store is, for messages."""

    def read(self, key: str) -> bytes:
        """Return the whole object; StorageError when it is absent."""

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading; the file can seek. StorageError when the object is absent."""

    def write(self, key: str, data: bytes) -> None:
        """Put an object in place of whatever was there, atomically and durably."""

    def create(self, key: str, data: bytes) -> bool:
        """Put an object only if none is there (a conditional put); False when one was."""

    def append(self, key: str, data: bytes) -> None:
        """Add to the end of an object that only its one owner writes (event logs)."""

    def exists(self, key: str) -> bool:
        """Say whether an object or a folder is there."""

    def list(self, prefix: str) -> list[str]:
        """Return the keys of all objects below a folder, in name order; empty when there is none."""

    def entries(self, prefix: str) -> Entries:
        """Return what `list` names, with sizes and versions; prefix may also name one single object."""

    def delete(self, key: str) -> None:
        """Remove an object or a folder; nothing happens when it is absent."""

    def fetch(self, key: str) -> Path:
        """Return a local path to read an object or a folder from."""

    def upload(self, key: str, path: Path) -> None:
        """Put a local file or folder at key; it replaces what was there."""

    def within(self, prefix: str) -> "Store":
        """Return the store whose keys start below a folder of this one."""


def is_hidden(key: str) -> bool:
    """Say whether a key is left out of listings: half-written objects and scratch lie under hidden names."""
    return any(part.startswith(".") for part in key.split("/"))


def normal_key(key: str, url: str) -> str:
    """Return a key without dots and doubled slashes; StorageError when it leads out of the store at url."""
    normal = posixpath.normpath(key) if key else ""
    if normal.startswith(("../", "/")) or normal == "..":
        raise StorageError(f"{key}: leads out of the store {url}")
    return "" if normal == "." else normal
