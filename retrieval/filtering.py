"""Filters over the documents of a shard, as a mask over its rows."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.documents import META
from retrieval.layout import Part, Shard
from retrieval.rank import Filter
from retrieval.tables import read_table

Mask = npt.NDArray[np.bool_]

_MASKS = 512
"""Masks kept by a process: at 250,000 rows a shard, some 130 MB."""


@dataclass(frozen=True, slots=True)
class _Place:
    url: str
    store: Store = field(compare=False)


def allowed_rows(store: Store, shard: Shard, allowed: Filter) -> Mask | None:
    """Return which rows of a shard a filter allows, read-only; None when it allows all.

    A document without a value of a column is not found by a filter on it. Errors: DataError for a column
    that the documents do not have.
    """
    if allowed.empty:
        return None
    where = tuple(sorted((name, tuple(sorted(values))) for name, values in allowed.where.items()))
    return _mask(_Place(store.url, store), shard.parts, allowed.tokens, where)


@lru_cache(maxsize=_MASKS)
def _mask(
    place: _Place,
    parts: tuple[Part, ...],
    tokens: tuple[int, int] | None,
    where: tuple[tuple[str, tuple[str, ...]], ...],
) -> Mask:
    mask = np.concatenate([_of_part(place.store, part, tokens, where) for part in parts])
    mask.flags.writeable = False
    return mask


def _of_part(
    store: Store,
    part: Part,
    tokens: tuple[int, int] | None,
    where: tuple[tuple[str, tuple[str, ...]], ...],
) -> Mask:
    columns = [f"{META}{name}" for name, _ in where] + (["tokens"] if tokens else [])
    table = read_table(store, part.documents_key, columns)
    mask = np.ones(part.rows, dtype=np.bool_)
    for name, values in where:
        column = f"{META}{name}"
        if column not in table.column_names:
            raise DataError(
                f"retriever.where: the documents have no metadata {name!r}; "
                "name it in corpus.metadata and build the index anew"
            )
        mask &= np.asarray(pc.is_in(table[column], value_set=pa.array(values, pa.string())))
    if tokens:
        counts = np.asarray(table["tokens"].fill_null(-1))
        mask &= (counts >= tokens[0]) & (counts <= tokens[1])
    return mask
