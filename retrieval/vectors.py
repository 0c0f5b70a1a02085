"""Vectors of an index: one NumPy file of half precision a part, mapped into memory where they are read."""

import io
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from cluster.errors import DataError, ModelError, StorageError
from cluster.storage import Store
from retrieval.layout import Part, RowNumbers

Vectors = npt.NDArray[np.float32]
HalfVectors = npt.NDArray[np.float16]

_FEWEST_PARTS = 64
_SPREAD = 4


def write_vectors(store: Store, part: Part, vectors: Vectors) -> None:
    """Put the vectors of a part, shape (rows, dimension), into the store in half precision."""
    with np.errstate(over="ignore"):
        half = vectors.astype(np.float16)
    if not np.isfinite(half).all():
        row = int(np.flatnonzero(~np.isfinite(half).all(axis=1))[0])
        raise ModelError(
            f"{part.documents_key}:{row + 1}: the encoder made a vector that half precision cannot hold; "
            "set index.encoder.dtype=float32, or take a preset that normalises"
        )
    buffer = io.BytesIO()
    np.save(buffer, half, allow_pickle=False)
    store.write(part.vectors_key, buffer.getvalue())


def map_vectors(store: Store, part: Part) -> HalfVectors:
    """Map the vectors of a part, shape (rows, dimension), read-only; StorageError when they are damaged."""
    path = store.fetch(part.vectors_key)
    try:
        vectors: HalfVectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise StorageError(
            f"{store.url}/{part.vectors_key}: is damaged ({error}); remove it and run again"
        ) from error
    if vectors.ndim != 2 or len(vectors) != part.rows or vectors.dtype != np.float16:
        raise StorageError(
            f"{store.url}/{part.vectors_key}: holds {vectors.dtype} of shape {vectors.shape} instead of "
            f"{part.rows} vectors of float16; remove it and run again"
        )
    return vectors


def check_queries(store: Store, queries: Vectors, dimension: int) -> None:
    """Raise DataError unless queries are finite and as long as the vectors of the index."""
    if queries.ndim != 2 or queries.shape[1] != dimension:
        raise DataError(
            f"{store.url}: holds vectors of {dimension} dimensions, the encoder makes {queries.shape[-1]}; "
            "build the index anew with this encoder"
        )
    if not np.isfinite(queries).all():
        row = int(np.flatnonzero(~np.isfinite(queries).all(axis=1))[0])
        raise DataError(f"query {row + 1}: its vector is not finite; check the text and the encoder")


def sample_vectors(store: Store, parts: Sequence[Part], count: int, seed: int) -> tuple[RowNumbers, Vectors]:
    """Return count rows drawn without replacement (all of them, if fewer), ascending, and their vectors.

    They come from parts drawn at random that hold some times as many, so that not every file is read.
    """
    random = np.random.default_rng(seed)
    drawn: list[int] = []
    held = 0
    for number in random.permutation(len(parts)):
        if len(drawn) >= _FEWEST_PARTS and held >= _SPREAD * count:
            break
        drawn.append(int(number))
        held += parts[number].rows
    drawn.sort()
    positions = np.sort(random.choice(held, min(count, held), replace=False, shuffle=False))
    starts = [0, *accumulate(part.rows for part in parts)]
    rows, vectors, first = [], [], 0
    for number in drawn:
        part = parts[number]
        chosen = positions[(positions >= first) & (positions < first + part.rows)] - first
        first += part.rows
        if len(chosen):
            rows.append(chosen + starts[number])
            vectors.append(map_vectors(store, part)[chosen].astype(np.float32))
    return np.concatenate(rows), np.concatenate(vectors)
