"""What an index of 30 million vectors of 768 dimensions would take, from unit costs."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from retrieval.settings import IndexSettings
from retrieval.structure import choose, training_rows

ROWS, DIMENSION = 30_000_000, 768
QUERIES, DEEP = 1_000, 500
CORES = 16
_ROUNDS = 10
_TRIED = 4_096


def project(measured: Sequence[Mapping[str, Any]], threads: int) -> dict[str, Any]:
    """Print and return the projection with its arithmetic, from measured sizes, the largest last."""
    structure = choose(IndexSettings(structure="ivf_pq"), ROWS, DIMENSION, sys.maxsize)
    lists, code = structure.lists, structure.code_bytes
    assign, encode = _assign(lists, threads), _encode(code, threads)
    largest, wider = measured[-1], DIMENSION / measured[-1]["dimension"]
    found = largest["structure"]
    probes = round(found["probes"] * lists / found["lists"])
    scanned = found["probes"] * largest["rows"] / found["lists"]
    scan = largest["of_which_codes_s"] / (QUERIES * scanned) * wider
    compared = DEEP * found["oversample"]
    pair = (largest["search_1000_top_500_s"] - largest["of_which_codes_s"]) / (QUERIES * compared) * wider
    codebooks = _codebooks(measured) * wider
    points, looked = training_rows(structure), probes * ROWS / lists
    size = ROWS * (code + 8) + lists * DIMENSION * 4
    seconds = {
        "train lists": points * _ROUNDS * assign,
        "train codes": codebooks,
        "assign and encode": ROWS * (assign + encode),
        "search 1,000 x top 500": QUERIES * (looked * scan + compared * max(pair, 0)),
    }
    arithmetic = {
        "structure": f"{lists:,} lists, {probes} probes, code {code} bytes, oversample {found['oversample']}",
        "memory": f"{ROWS:,} x ({code} + 8 bytes) + {lists:,} x {DIMENSION} x 4 bytes = {size / 1e9:.1f} GB; "
        f"exact fp32 {ROWS * DIMENSION * 4 / 1e9:.1f} GB, fp16 on disk {ROWS * DIMENSION * 2 / 1e9:.1f} GB",
        "train lists": f"{points:,} points x {_ROUNDS} rounds x {assign * 1e6:.1f} us",
        "train codes": f"measured at {largest['dimension']} dimensions x {wider:g}",
        "assign and encode": f"{ROWS:,} x ({assign * 1e6:.1f} + {encode * 1e6:.1f} us)",
        "search 1,000 x top 500": f"{QUERIES:,} x ({looked:,.0f} codes x {scan * 1e9:.1f} ns "
        f"+ {compared:,} pairs x {pair * 1e9:.0f} ns)",
    }
    print(f"Projection to {ROWS:,} x {DIMENSION}, on {threads} threads and, if it scales, on {CORES}:")
    for name, text in arithmetic.items():
        if name in seconds:
            text += f" = {seconds[name]:,.0f} s; on {CORES}: {seconds[name] * threads / CORES:,.0f} s"
        print(f"  {name}: {text}")
    return {"arithmetic": arithmetic, "seconds": seconds, "threads": threads, "bytes": size}


def _codebooks(measured: Sequence[Mapping[str, Any]]) -> float:
    """Return the part of the training time that does not grow with the square of the lists."""
    squares = np.array([each["structure"]["lists"] ** 2 for each in measured], dtype=np.float64)
    times = np.array([each["train_s"] for each in measured])
    if len(measured) < 2:
        return float(times[0])
    return max(0.0, float(np.polyfit(squares, times, 1)[1]))


def _assign(lists: int, threads: int) -> float:
    """Measure the seconds to find the nearest list of one vector."""
    import faiss

    faiss.omp_set_num_threads(threads)
    centroids, vectors = _unit(lists), _unit(_TRIED)
    index = faiss.IndexFlatIP(DIMENSION)
    index.add(centroids)
    return _seconds(lambda: index.search(vectors, 1))


def _encode(code: int, threads: int) -> float:
    """Measure the seconds to make the code of one vector; codebooks that are trained badly are as fast."""
    import faiss

    faiss.omp_set_num_threads(threads)
    vectors = _unit(_TRIED)
    quantizer = faiss.ProductQuantizer(DIMENSION, code, 8)
    quantizer.cp.niter = 1
    quantizer.cp.min_points_per_centroid = 1
    quantizer.train(vectors)
    return _seconds(lambda: quantizer.compute_codes(vectors))


def _seconds(function: Callable[[], Any]) -> float:
    function()
    begun = time.perf_counter()
    function()
    return (time.perf_counter() - begun) / _TRIED


def _unit(rows: int) -> Any:
    vectors = np.random.default_rng(0).standard_normal((rows, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
