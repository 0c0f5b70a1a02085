"""One interface to the place where runs and indexes are kept: a local folder now, object stores later.

Keys are relative, with forward slashes. Every write is whole or absent: readers never see half a file.
"""

import os
import shutil
import uuid
from pathlib import Path
from typing import Protocol

from cluster.errors import StorageError


class Store(Protocol):
    """A place that holds immutable and replaceable objects under keys."""

    @property
    def url(self) -> str:
        """Where the store is, for messages."""

    def read(self, key: str) -> bytes:
        """Return the whole object; StorageError when it is absent."""

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

    def delete(self, key: str) -> None:
        """Remove an object or a folder; nothing happens when it is absent."""

    def fetch(self, key: str) -> Path:
        """Return a local path to read an object or a folder from."""

    def upload(self, key: str, path: Path) -> None:
        """Put a local file or folder at key; it replaces what was there."""

    def within(self, prefix: str) -> "Store":
        """Return the store whose keys start below a folder of this one."""


class LocalStore:
    """A store in a folder of a file system that all nodes of the cluster share."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.normpath(root.absolute()))

    @property
    def url(self) -> str:
        return str(self.root)

    def read(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except OSError as error:
            raise StorageError(f"{self._path(key)}: cannot be read ({error.strerror})") from error

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        temporary = self._temporary(path, data)
        try:
            temporary.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _refusal(path, error) from error

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        temporary = self._temporary(path, data)
        try:
            # A hard link fails where the name exists: the file system's conditional put.
            path.hardlink_to(temporary)
            _sync_folder(path.parent)
        except FileExistsError:
            return False
        except OSError as error:
            raise _refusal(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def append(self, key: str, data: bytes) -> None:
        path = self._path(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(data)
        except OSError as error:
            raise _refusal(path, error) from error

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def list(self, prefix: str) -> list[str]:
        folder = self._path(prefix)
        files = (path.relative_to(self.root) for path in folder.rglob("*") if path.is_file())
        # What is half written lies under a hidden name, and so may a folder.
        return sorted(f.as_posix() for f in files if not any(part.startswith(".") for part in f.parts))

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise _refusal(path, error) from error

    def fetch(self, key: str) -> Path:
        path = self._path(key)
        if not path.exists():
            raise StorageError(f"{path}: is not there")
        return path

    def upload(self, key: str, path: Path) -> None:
        target = self._path(key)
        temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, temporary)
                self.delete(key)
            else:
                shutil.copyfile(path, temporary)
            temporary.replace(target)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise _refusal(target, error) from error

    def within(self, prefix: str) -> "LocalStore":
        return LocalStore(self._path(prefix))

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.root / key))
        if not path.is_relative_to(self.root):
            raise StorageError(f"{key}: leads out of the store {self.root}")
        return path

    def _temporary(self, path: Path, data: bytes) -> Path:
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            _discard(temporary)
            raise _refusal(path, error) from error
        return temporary


def open_store(url: str, base: Path = Path()) -> Store:
    """Open the store a recipe names, from base if it is relative; StorageError when it cannot be written."""
    scheme, separator, _ = url.partition("://")
    if separator and scheme != "file":
        raise StorageError(f"store: {url}: only folders are supported so far; give a folder all nodes share")
    store = LocalStore(base / Path(url.removeprefix("file://")).expanduser())
    probe = f".probe-{uuid.uuid4().hex}"
    store.write(probe, b"")
    store.delete(probe)
    return store


def _refusal(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path}: cannot be written ({error.strerror}); give a store you may write with --set store=FOLDER"
    )


def _discard(path: Path) -> None:
    # The folder itself may be what could not be made.
    if path.parent.is_dir():
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # Without this a power cut can lose the name of a file whose bytes are safe.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
