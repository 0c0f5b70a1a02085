"""A store in a folder of a file system that all nodes of the cluster share."""

import errno
import io
import os
import shutil
import uuid
from pathlib import Path
from typing import BinaryIO

from cluster.errors import StorageError
from cluster.store import Entries, Entry, is_hidden

_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalStore:
    """Objects are files: written under a hidden name first, then renamed or linked into place."""

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

    def open(self, key: str) -> BinaryIO:
        try:
            return self._path(key).open("rb")
        except OSError as error:
            raise StorageError(f"{self._path(key)}: cannot be read ({error.strerror})") from error

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        temporary = self._temporary(path, data)
        try:
            temporary.replace(path)
            _sync(path.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _refusal(path, error) from error

    def create(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        temporary = self._temporary(path, data)
        try:
            # A hard link fails where the name exists: the file system's conditional put.
            path.hardlink_to(temporary)
            _sync(path.parent)
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
            with path.open("ab", buffering=0) as file:
                before = file.seek(0, os.SEEK_END)
                try:
                    _write_all(file, data)
                except OSError:
                    # Half a line would spoil the next one too.
                    file.truncate(before)
                    raise
        except OSError as error:
            raise _refusal(path, error) from error

    def exists(self, key: str) -> bool:
        return self._path(key).exists()

    def list(self, prefix: str) -> list[str]:
        found = self._path(prefix).rglob("*")
        keys = (path.relative_to(self.root).as_posix() for path in found if path.is_file())
        return sorted(key for key in keys if not is_hidden(key))

    def entries(self, prefix: str) -> Entries:
        path = self._path(prefix)
        keys = [path.relative_to(self.root).as_posix()] if path.is_file() else self.list(prefix)
        return [entry for key in keys if (entry := self._entry(key)) is not None]

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
                if target.is_dir():
                    self.delete(key)
            for each in [temporary, *temporary.rglob("*")]:
                _sync(each)
            temporary.replace(target)
            _sync(target.parent)
        except (OSError, StorageError) as error:
            _discard(temporary)
            raise error if isinstance(error, StorageError) else _refusal(target, error) from error

    def within(self, prefix: str) -> "LocalStore":
        return LocalStore(self._path(prefix))

    def _path(self, key: str) -> Path:
        path = Path(os.path.normpath(self.root / key))
        if not path.is_relative_to(self.root):
            raise StorageError(f"{key}: leads out of the store {self.root}")
        return path

    def _entry(self, key: str) -> Entry | None:
        try:
            found = self._path(key).stat()
        except FileNotFoundError:
            return None  # Deleted since it was listed.
        return Entry(key, found.st_size, str(found.st_mtime_ns))

    def _temporary(self, path: Path, data: bytes) -> Path:
        temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb", buffering=0) as file:
                _write_all(file, data)
                os.fsync(file.fileno())
        except OSError as error:
            _discard(temporary)
            raise _refusal(path, error) from error
        return temporary


def _write_all(file: io.FileIO, data: bytes) -> None:
    # Unbuffered, so that a full disk is told here and not when the file is closed.
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest) :]


def _refusal(path: Path, error: OSError) -> StorageError:
    if isinstance(error, shutil.Error):
        # What copying a folder met with: one (source, target, reason) for each file.
        full = any(os.strerror(number) in str(error) for number in _FULL)
        reason = os.strerror(errno.ENOSPC) if full else str(error.args[0][0][2])
    else:
        full, reason = error.errno in _FULL, str(error.strerror or error)
    if full:
        return StorageError(
            f"{path}: cannot be written, the disk is full ({reason}); free space there, or give "
            "another store with --set store=PLACE"
        )
    return StorageError(
        f"{path}: cannot be written ({reason}); give a store you may write with --set store=FOLDER"
    )


def _discard(path: Path) -> None:
    # The folder itself may be what could not be made.
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    elif path.parent.is_dir():
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    # Of a folder too: without it a power cut can lose the name of a file whose bytes are safe.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
