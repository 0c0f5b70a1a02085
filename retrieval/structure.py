"""How vectors are searched: chosen from size and memory, trained on a sample, tuned to a recall."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from retrieval.layout import RowNumbers
from retrieval.manifest import Structure
from retrieval.rank import NO_ROW
from retrieval.settings import IndexSettings
from retrieval.vectors import Vectors

_MOST_LISTS = 65_536
_POINTS_OF_A_LIST = 64
_LIST_ROUNDS = 10
_ID_BYTES = 8
"""What FAISS keeps beside each code."""

_CENTROIDS = 256
_CODE_POINTS = 64
_CODE_ROUNDS = 8
_CODE_SPANS = (4, 8, 12, 16, 24, 32)
"""Dimensions of one byte of a product-quantised code, finest first; FAISS is far slower at others."""

_DEPTH = 50
_WORK_DEPTH = 500
"""Documents of a query whose work is weighed: what retrieval for seeds asks for."""
_SCATTERED = 4
"""Work is bytes read; one of a candidate's vector, somewhere in a file, costs as much as so many of codes."""
_OVERSAMPLES = (1, 2, 3, 4, 6, 8, 12, 16)

Find = Callable[[Structure, Vectors, int], RowNumbers]
"""Names at most so many candidates of an index for each query, best first, by a structure's own scores."""


def choose(settings: IndexSettings, rows: int, dimension: int, memory_bytes: int) -> Structure:
    """Choose kind, lists and code length; memory_bytes is what the codes may take over the whole cluster.

    Inverted lists number about 4 √rows, a power of two, with 64 vectors or more each.
    """
    kind = settings.structure
    if kind == "auto":
        if rows <= settings.exact_rows:
            kind = "exact"
        else:
            kind = "ivf_sq" if rows * (dimension + _ID_BYTES) <= memory_bytes else "ivf_pq"
    if kind == "exact":
        return Structure()
    wanted = min(4 * math.sqrt(max(rows, 1)), rows / _POINTS_OF_A_LIST, _MOST_LISTS)
    lists = 2 ** max(0, round(math.log2(max(wanted, 1))))
    code = dimension if kind == "ivf_sq" else _code_bytes(dimension, memory_bytes // max(rows, 1) - _ID_BYTES)
    return Structure(kind, lists=lists, probes=min(lists, 16), code_bytes=code, oversample=4, recall=0.0)


def training_rows(structure: Structure) -> int:
    """Return how many vectors `train` makes use of."""
    return max(_POINTS_OF_A_LIST * structure.lists, _CENTROIDS * _CODE_POINTS)


def train(vectors: Vectors, structure: Structure, seed: int, threads: int = 1) -> bytes:
    """Train lists and codes on a sample, shape (vectors, dimension), and return an empty FAISS index.

    Lists are spherical k-means clusters by inner product, found on a GPU where FAISS has one.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    # FAISS refuses fewer points than centroids; repeated ones change nothing else.
    shortest = max(_CENTROIDS, structure.lists)
    if len(vectors) < shortest:
        vectors = np.resize(vectors, (shortest, vectors.shape[1]))
    centroids = _cluster(vectors, structure.lists, seed)
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    quantizer.add(centroids)
    index = _empty(quantizer, structure, vectors.shape[1], seed)
    index.train(vectors)
    template: bytes = faiss.serialize_index(index).tobytes()
    return template


def tune(
    structure: Structure, rows: int, recall: float, queries: Vectors, own: RowNumbers, find: Find
) -> Structure:
    """Return the structure with the probes and oversample that reach a recall with the least work.

    rows is the size of the index, queries are vectors of documents, own their rows, which do not count as
    found. Recall is the share of the exact 50 nearest that the structure finds, on average; it reaches what
    is wanted if it does so less its standard error. Where nothing does, the best is returned.
    """
    truth = _without(find(Structure(), queries, _DEPTH + 1), own)[:, :_DEPTH]
    best, cheapest, least = replace(structure, recall=0.0), None, math.inf
    for probes in _probes(structure.lists):
        codes = probes * rows / structure.lists * (structure.code_bytes + _ID_BYTES)
        if codes >= least:
            break
        found = find(replace(structure, probes=probes), queries, _DEPTH * _OVERSAMPLES[-1] + 1)
        places = _places(truth, _without(found, own))
        for oversample in _OVERSAMPLES:
            share, error = _share(places, truth != NO_ROW, _DEPTH * oversample)
            tried = replace(structure, probes=probes, oversample=oversample, recall=round(share, 4))
            best = max(best, tried, key=lambda each: each.recall)
            if share == 1 or share - error >= recall:
                work = codes + oversample * _WORK_DEPTH * _SCATTERED * queries.shape[1] * 2
                if work < least:
                    cheapest, least = tried, work
                break
    return cheapest or best


def for_depth(structure: Structure, rows: int, count: int) -> Structure:
    """Return the structure with the lists that hold at least twice count of an index's rows, on average."""
    if structure.kind == "exact":
        return structure
    probes = math.ceil(2 * count * structure.lists / max(rows, 1))
    return replace(structure, probes=min(structure.lists, max(structure.probes, probes)))


def _code_bytes(dimension: int, most: int) -> int:
    fitting = [dimension // span for span in _CODE_SPANS if dimension % span == 0]
    if not fitting:
        fitting = [size for size in range(max(1, dimension // 4), 0, -1) if dimension % size == 0]
    return next((size for size in fitting if size <= most), fitting[-1])


def _cluster(vectors: Vectors, lists: int, seed: int) -> Vectors:
    import faiss

    clustering = faiss.Clustering(vectors.shape[1], lists)
    clustering.spherical = True
    clustering.niter = _LIST_ROUNDS
    clustering.seed = seed
    clustering.min_points_per_centroid = 1
    clustering.max_points_per_centroid = _POINTS_OF_A_LIST
    clustering.train(vectors, nearest_centroid(faiss.IndexFlatIP(vectors.shape[1])))
    centroids: Vectors = faiss.vector_to_array(clustering.centroids).reshape(lists, -1)
    return centroids


def nearest_centroid(quantizer: Any) -> Any:
    """Return a quantizer's copy on the GPU where FAISS has one, and the quantizer itself where not."""
    import faiss

    gpus = faiss.get_num_gpus()
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, quantizer) if gpus else quantizer


def _empty(quantizer: Any, structure: Structure, dimension: int, seed: int) -> Any:
    import faiss

    metric = faiss.METRIC_INNER_PRODUCT
    if structure.kind == "ivf_sq":
        eight = faiss.ScalarQuantizer.QT_8bit
        index: Any = faiss.IndexIVFScalarQuantizer(quantizer, dimension, structure.lists, eight, metric)
    else:
        size = structure.code_bytes
        index = faiss.IndexIVFPQ(quantizer, dimension, structure.lists, size, 8, metric)
        index.pq.cp.niter = _CODE_ROUNDS
        index.pq.cp.seed = seed
        index.pq.cp.min_points_per_centroid = 1
        index.pq.cp.max_points_per_centroid = _CODE_POINTS
    index.own_fields = False
    return index


def _probes(lists: int) -> list[int]:
    """Return 1, 2, 3, 4, 6, 8, 12 … up to all lists."""
    doubled = [2**power for power in range(lists.bit_length())]
    return sorted({size for power in doubled for size in (power, power * 3 // 2) if size <= lists})


def _without(rows: RowNumbers, own: RowNumbers) -> RowNumbers:
    """Move each query's own row, where it is among the rows, behind the others, as no row."""
    mine = rows == own[:, None]
    order = np.argsort(mine, axis=1, kind="stable")
    others: RowNumbers = np.take_along_axis(np.where(mine, NO_ROW, rows), order, axis=1)
    return others


def _places(truth: RowNumbers, found: RowNumbers) -> RowNumbers:
    """Return the place of every true row among the found ones, from 0; past the end where it is missing."""
    matches = truth[:, :, None] == found[:, None, :]
    missing = _DEPTH * _OVERSAMPLES[-1]
    places: RowNumbers = np.where(matches.any(axis=2), matches.argmax(axis=2), missing)
    return places


def _share(places: RowNumbers, counted: npt.NDArray[np.bool_], limit: int) -> tuple[float, float]:
    """Return the mean share of counted places below a limit over the queries, and its standard error."""
    counts = counted.sum(axis=1)
    shares = ((places < limit) & counted).sum(axis=1)[counts > 0] / counts[counts > 0]
    if not len(shares):
        return 1.0, 0.0
    return float(shares.mean()), float(shares.std() / math.sqrt(len(shares)))
