"""Dropping documents that came before: 8 bytes an id are held for the whole corpus, and nothing else."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Store
from retrieval.ids import Numbers, numbers_of
from retrieval.layout import Part
from retrieval.reading.work import SplitResult
from retrieval.remote import TRIES, completed
from retrieval.tables import read_table, write_table


def drop_duplicates(
    store: Store, generation: int, results: Sequence[SplitResult], earlier: Numbers
) -> tuple[list[Part], list[Numbers], dict[str, int]]:
    """Keep the first document of every id and the first row of every key.

    Returns the parts that are left, the ids of each, and how many rows were dropped by reason.
    """
    import ray

    names = [name for result in results for name, _ in result.parts]
    look = ray.remote(num_cpus=1, max_retries=TRIES)(_ids_and_keys)
    found = dict(completed(lambda name: look.remote(store, name), names, 64))
    ids, keys = ([found[name][which] for name in names] for which in (0, 1))
    fresh = _first(ids, earlier)
    kept = (
        fresh & _first(keys, np.empty(0, dtype=np.uint64), among=fresh) if names and len(keys[0]) else fresh
    )
    starts = [0, *accumulate(map(len, ids))]
    masks = {name: kept[start:stop] for name, (start, stop) in zip(names, pairwise(starts), strict=True)}
    dropped = _counted(store, generation, int((~fresh).sum()), int((fresh & ~kept).sum()))
    drop = ray.remote(num_cpus=1, max_retries=TRIES)(_drop)
    lossy = [name for name in names if not masks[name].all()]
    for _ in completed(lambda name: drop.remote(store, name, masks[name]), lossy, 64):
        pass
    parts = [Part(name, int(masks[name].sum())) for name in names if masks[name].any()]
    chosen = [ids[place][masks[name]] for place, name in enumerate(names)]
    return parts, chosen, dropped


def _first(columns: Sequence[Numbers], earlier: Numbers, among: Any = None) -> npt.NDArray[np.bool_]:
    """Say for every row whether its number is new: neither earlier nor on a row before it."""
    numbers = np.concatenate([np.empty(0, dtype=np.uint64), *columns])
    rows = np.arange(len(numbers)) if among is None else np.flatnonzero(among)
    _, where = np.unique(numbers[rows], return_index=True)
    first = np.zeros(len(numbers), dtype=np.bool_)
    first[rows[where]] = True
    return first & ~np.isin(numbers, earlier) if len(earlier) else first


def _ids_and_keys(store: Store, name: str) -> tuple[Numbers, Numbers]:
    table = read_table(store, Part(name, 0).documents_key)
    keys = table["key"].to_pylist() if "key" in table.column_names else []
    return numbers_of(table["id"].to_pylist()), numbers_of([_hashed(key) for key in keys])


def _hashed(key: str) -> str:
    return blake2b(key.encode(), digest_size=8).hexdigest()


def _drop(store: Store, name: str, kept: npt.NDArray[np.bool_]) -> None:
    key = Part(name, 0).documents_key
    write_table(store, key, read_table(store, key).filter(pa.array(kept)))


def _counted(store: Store, generation: int, by_id: int, by_key: int) -> dict[str, int]:
    """Return what is to be dropped by reason, as it was before a build that was cut short dropped some."""
    counts = {"duplicate": by_id, "duplicate_key": by_key}
    dropped = {reason: count for reason, count in counts.items() if count}
    key = f"dropped-{generation:06d}.json"
    return dropped if store.create(key, json.dumps(dropped).encode()) else dict(json.loads(store.read(key)))
