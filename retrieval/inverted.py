"""Inverted lists of a shard: a FAISS file of codes, mapped into memory; all shards share one template.

The template holds the trained centroids and codebooks, a shard's file only its lists: at 30 million documents
the centroids would otherwise be stored and held a hundred times.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from cluster.errors import StorageError
from cluster.storage import Store
from retrieval.filtering import Mask
from retrieval.layout import RowNumbers, Shard
from retrieval.manifest import Structure
from retrieval.rank import Scores
from retrieval.structure import nearest_centroid
from retrieval.vectors import Vectors, check_queries, map_vectors

_OPEN_SHARDS = 256


def template_key(structure: Structure) -> str:
    """Key of what `train` returned."""
    return f"shards/{structure.name}-template.faiss"


def shard_key(shard: Shard, structure: Structure) -> str:
    """Key of a shard's inverted lists."""
    return f"shards/{structure.name}-{shard.number:05d}-{shard.rows}.faiss"


def fill_lists(store: Store, shard: Shard, structure: Structure, threads: int) -> Any:
    """Return a FAISS index of the shard's vectors, numbered from 0; lists are assigned on a GPU if any."""
    import faiss

    faiss.omp_set_num_threads(threads)
    index = _read(store, template_key(structure))
    assigner = nearest_centroid(index.quantizer)
    for part in shard.parts:
        vectors = map_vectors(store, part).astype(np.float32)
        check_queries(store, vectors, index.d)
        _, lists = assigner.search(vectors, 1)
        numbers = np.arange(index.ntotal, index.ntotal + len(vectors))
        index.add_core(len(vectors), *(faiss.swig_ptr(array) for array in (vectors, numbers, lists)))
    return index


def join_lists(store: Store, shards: Sequence[Shard], structure: Structure) -> Any:
    """Return one FAISS index of the lists of all shards, numbered from 0."""
    index = _read(store, template_key(structure))
    for shard in shards:
        lists = _read(store, shard_key(shard, structure))
        # FAISS makes sure that both have the same number of centroids.
        lists.own_fields = False
        lists.quantizer = index.quantizer
        index.merge_from(lists, shard.first_row - shards[0].first_row)
    return index


def write_lists(store: Store, key: str, index: Any) -> None:
    """Put an index into the store without its centroids."""
    import faiss

    quantizer, without = index.quantizer, faiss.IndexFlatIP(index.d)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lists.faiss"
        try:
            index.quantizer = without
            faiss.write_index(index, str(path))
        finally:
            index.quantizer = quantizer
        store.upload(key, path)


class Lists:
    """The inverted lists of one structure, searched shard by shard for the same queries."""

    def __init__(self, store: Store, structure: Structure, queries: Vectors, threads: int) -> None:
        import faiss

        faiss.omp_set_num_threads(threads)
        self._store = store
        self._structure = structure
        self._queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._template = _template(str(store.fetch(template_key(structure))), store.url)
        self._nearest: dict[int, tuple[Scores, RowNumbers]] = {}
        check_queries(store, queries, self._template.d)

    def search(self, shard: Shard, probes: int, count: int, mask: Mask | None) -> tuple[Scores, RowNumbers]:
        """Return scores by codes and rows of the index, (queries, count), best first, padded."""
        import faiss

        index = self._opened(shard)
        closeness, lists = self._nearest_lists(probes)
        scores = np.empty((len(self._queries), count), dtype=np.float32)
        rows = np.empty(scores.shape, dtype=np.int64)
        parameters = faiss.SearchParametersIVF()
        parameters.nprobe = probes
        if mask is not None:
            bits = np.packbits(mask, bitorder="little")
            selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            parameters.sel = selector
        index.search_preassigned_c(
            len(self._queries),
            faiss.swig_ptr(self._queries),
            count,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(closeness),
            faiss.swig_ptr(scores),
            faiss.swig_ptr(rows),
            False,
            parameters,
        )
        missing = rows < 0
        scores[missing] = -np.inf
        rows[~missing] += shard.first_row
        return scores, rows

    def _nearest_lists(self, probes: int) -> tuple[Scores, RowNumbers]:
        if probes not in self._nearest:
            self._nearest[probes] = self._template.quantizer.search(self._queries, probes)
        return self._nearest[probes]

    def _opened(self, shard: Shard) -> Any:
        key = shard_key(shard, self._structure)
        index = _mapped(str(self._store.fetch(key)), self._store.url)
        if index.ntotal != shard.rows:
            raise StorageError(
                f"{self._store.url}/{key}: holds {index.ntotal} vectors instead of {shard.rows}; "
                "remove it and run again"
            )
        # Scanning asks for centroids, which the file is without.
        index.quantizer = self._template.quantizer
        return index


@lru_cache(maxsize=8)
def _template(path: str, url: str) -> Any:
    return _load(path, url, 0)


@lru_cache(maxsize=_OPEN_SHARDS)
def _mapped(path: str, url: str) -> Any:
    import faiss

    index = _load(path, url, faiss.IO_FLAG_MMAP)
    # The template's quantizer will take the place of the empty one, and is not this index's to free.
    index.own_fields = False
    lists = faiss.downcast_InvertedLists(index.invlists)
    if hasattr(lists, "prefetch_nthread"):
        lists.prefetch_nthread = 0
    return index


def _read(store: Store, key: str) -> Any:
    return _load(str(store.fetch(key)), store.url, 0)


def _load(path: str, url: str, flags: int) -> Any:
    import faiss

    try:
        return faiss.read_index(path, flags)
    except RuntimeError as error:
        raise StorageError(
            f"{path}: is not a readable FAISS file; remove it, and the manifests of {url}, and run again"
        ) from error
