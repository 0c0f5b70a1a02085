"""From the name of a place to its store: a folder that all nodes share, or an object store.

What a store can do is said in `cluster/store.py`; how, in `cluster/local_store.py` and `cluster/s3_store.py`.
"""

import uuid
from pathlib import Path
from typing import Any

from cluster.errors import StorageError
from cluster.local_store import LocalStore
from cluster.store import Entry, Store

__all__ = ["Entry", "LocalStore", "Store", "arrow_place", "check_reach", "open_store", "place"]


def place(url: str, base: Path = Path()) -> Store:
    """Return the store at a folder, from base if it is relative, at `file://` or at `s3://bucket/prefix`.

    Nothing is read or written. StorageError when the name cannot be that of a store.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme == "s3":
        from cluster.s3_store import s3_store

        return s3_store(rest)
    if separator and scheme != "file":
        raise StorageError(f"store: {url}: is of an unknown kind; give a folder, or s3://bucket/prefix")
    return LocalStore(base / Path(url.removeprefix("file://")).expanduser())


def open_store(url: str, base: Path = Path()) -> Store:
    """Return the store at url and make sure that it can be written; StorageError says why it cannot.

    An object store that cannot be reached, or for which there are no credentials, is told in seconds.
    """
    store = place(url, base)
    check_reach(store)
    probe = f".probe-{uuid.uuid4().hex}"
    made = store.create(probe, b"")
    again = store.create(probe, b"")
    store.delete(probe)
    if not made or again:
        raise StorageError(
            f"{store.url}: does not keep conditional puts (If-None-Match: *), which runs need "
            "so that they have one owner; give a store that does with --set store=PLACE"
        )
    return store


def check_reach(store: Store) -> None:
    """Raise StorageError, in less than ten seconds, when an object store cannot be reached from here."""
    if isinstance(store, LocalStore):
        return
    from cluster.s3_store import S3Store

    if isinstance(store, S3Store):
        store.reach()


def arrow_place(store: Store) -> tuple[Any, str]:
    """Return the file system of pyarrow that holds a store (None: this machine's), and the path in it.

    It finds its credentials where it is used; none travel with it.
    """
    if not isinstance(store, LocalStore):
        from cluster.s3_store import S3Store

        if isinstance(store, S3Store):
            return store.arrow(), store.path
    return None, store.url
