"""Document ids and the rows they stand for: a sorted table, mapped into memory and searched in halves."""

import io
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError, StorageError
from cluster.storage import Store
from retrieval.layout import RowNumbers
from retrieval.manifest import Index

Numbers = npt.NDArray[np.uint64]
"""Document ids as numbers."""

_ENTRY = np.dtype([("id", "<u8"), ("row", "<i8")])
_ID = re.compile("[0-9a-f]{16}")


def numbers_of(ids: Sequence[str]) -> Numbers:
    """Return ids, 16 hexadecimal characters each, as numbers."""
    return np.array([int(each, 16) for each in ids], dtype=np.uint64)


def write_ids(store: Store, generation: int, ids: Numbers) -> None:
    """Put the table of a generation into the index folder; ids come in row order."""
    table = np.empty(len(ids), dtype=_ENTRY)
    order = np.argsort(ids, kind="stable")
    table["id"], table["row"] = ids[order], order
    buffer = io.BytesIO()
    np.save(buffer, table, allow_pickle=False)
    store.write(_key(generation), buffer.getvalue())


def read_ids(store: Store, generation: int) -> Numbers:
    """Return the ids of a generation in row order."""
    table = _mapped(store, generation)
    ids = np.empty(len(table), dtype=np.uint64)
    ids[table["row"]] = table["id"]
    return ids


def find_rows(index: Index, ids: Sequence[str]) -> RowNumbers:
    """Return the row of every id; DataError names one that the index does not have."""
    table = _mapped(index.store, index.manifest.generation)
    named = np.array([_ID.fullmatch(id) is not None for id in ids], dtype=np.bool_)
    wanted = numbers_of([id if good else "0" for id, good in zip(ids, named, strict=True)])
    places = np.minimum(np.searchsorted(table["id"], wanted), len(table) - 1)
    there = named & (table["id"][places] == wanted)
    if not there.all():
        id = ids[int(np.argmin(there))]
        raise DataError(f"index {index.manifest.name}: has no document {id}; a search shows ids")
    rows: RowNumbers = table["row"][places]
    return rows


def _mapped(store: Store, generation: int) -> np.ndarray:
    try:
        return np.load(store.fetch(_key(generation)), mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise StorageError(
            f"{store.url}/{_key(generation)}: is damaged ({error}); remove the index folder, build it again"
        ) from error


def _key(generation: int) -> str:
    return f"ids-{generation:06d}.npy"
