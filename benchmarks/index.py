"""How fast an inverted index is built and searched, what it finds and what it holds in memory, by size.

    python -m benchmarks.index --vectors vectors.npy [--json FILE]

The vectors, shape (rows, dimension), are real ones; rows beyond them are real ones with Gaussian noise. The
queries are real vectors that are not in the index.
"""

import os

# The exact comparison brings its own threads, and NumPy's would only compete with them.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.claims import Claim, write_claims
from benchmarks.projection import project
from benchmarks.resident import FORMS
from cluster.storage import LocalStore
from retrieval.inverted import template_key
from retrieval.layout import Layout, Part, cut_shards
from retrieval.manifest import Structure
from retrieval.rank import Filter
from retrieval.settings import IndexSettings
from retrieval.shards import build_shard, find_candidates, search_shards
from retrieval.structure import choose, train, training_rows, tune
from retrieval.vectors import Vectors, map_vectors, sample_vectors, write_vectors

QUERIES = 1_000
DEEP = 500
DEPTH = 50
TUNING_QUERIES = 200
NOISE = 0.5
"""Length of the noise that is added to a real vector of length 1; the cosine to it becomes 0.89."""
PART_ROWS = 4_000
SHARD_ROWS = 250_000
SEED = 0
REPEATS = 3


def main() -> None:
    options = _options()
    sizes = sorted(int(size) for size in options.sizes.split(","))
    with TemporaryDirectory(dir=options.folder) as folder:
        store = LocalStore(Path(folder))
        queries, parts = _write_parts(store, options.vectors, sizes[-1])
        measured = [_measure(store, parts, size, queries, options) for size in sizes]
        largest = measured[-1]
        held = largest["resident_bytes_a_vector"]
        projection = project(measured, options.threads)
    exponent = float(np.polyfit(np.log(sizes), np.log([each["build_s"] for each in measured]), 1)[0])
    claims = {
        "build_time_exponent": Claim(exponent, 1.1, "lower"),
        "recall_at_50": Claim(min(each["recall_at_50"] for each in measured), 0.95),
        "memory_share_of_exact_fp32": Claim(held["ivf"] / held["fp32"], 1 / 8, "lower"),
        "seconds_1000_x_top_500": Claim(largest["search_1000_top_500_s"], 10.0, "lower"),
    }
    details = {
        "vectors": Path(options.vectors).name,
        "noise": NOISE,
        "threads": options.threads,
        "sizes": measured,
        "projection_30M_x_768": projection,
    }
    write_claims("index", claims, details, options.json)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vectors", required=True, type=Path, help=".npy of normalised vectors")
    parser.add_argument("--sizes", default="100000,300000,1000000", help="rows of the indexes")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--folder", type=Path, help="where the indexes are put for the while")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser.parse_args()


def _write_parts(store: LocalStore, path: Path, rows: int) -> tuple[Vectors, list[Part]]:
    """Write the vectors of the largest index, of which smaller ones are the beginning; return queries too."""
    given = np.load(path, mmap_mode="r")
    random = np.random.default_rng(SEED)
    order = random.permutation(len(given))
    queries = given[order[:QUERIES]].astype(np.float32)
    real = order[QUERIES:]
    parts: list[Part] = []
    for start in range(0, rows, PART_ROWS):
        numbers = np.arange(start, min(start + PART_ROWS, rows))
        vectors = given[real[numbers % len(real)]].astype(np.float32)
        noise = random.standard_normal(vectors.shape, dtype=np.float32) * (
            NOISE / math.sqrt(vectors.shape[1])
        )
        vectors += np.where(numbers[:, None] < len(real), 0, noise)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        parts.append(Part(f"{len(parts):05d}", len(numbers)))
        write_vectors(store, parts[-1], vectors)
    return queries, parts


def _measure(
    store: LocalStore, parts: list[Part], size: int, queries: Vectors, options: argparse.Namespace
) -> dict[str, Any]:
    taken = parts[: -(-size // PART_ROWS)]
    if sum(part.rows for part in taken) != size:
        raise SystemExit(f"--sizes: {size} is no multiple of {PART_ROWS}")
    layout = Layout(tuple(taken), cut_shards(taken, SHARD_ROWS))
    structure, times = _build(store, layout, options.threads)

    def search(each: Structure, top_k: int) -> tuple[float, Any]:
        return _timed(
            lambda: search_shards(store, layout.shards, each, queries, top_k, Filter(), options.threads)[1]
        )

    exact_s, truth = search(Structure(), DEEP)
    _, near = search(structure, DEPTH)
    deep_s, deep = search(structure, DEEP)
    codes_s, _ = _timed(
        lambda: find_candidates(
            store, layout.shards, structure, queries, DEEP * structure.oversample, Filter(), options.threads
        )
    )
    result = {
        "rows": size,
        "dimension": int(queries.shape[1]),
        "shards": len(layout.shards),
        "structure": asdict(structure),
        **times,
        "recall_at_50": _recall(truth[:, :DEPTH], near),
        "recall_at_500": _recall(truth, deep),
        "search_1000_top_500_s": deep_s,
        "of_which_codes_s": codes_s,
        "exact_1000_top_500_s": exact_s,
        "resident_bytes_a_vector": _resident(store, layout, structure, options),
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def _build(store: LocalStore, layout: Layout, threads: int) -> tuple[Structure, dict[str, float]]:
    dimension = int(map_vectors(store, layout.parts[0]).shape[1])
    # Given the memory, codes are the finest: a byte for four dimensions.
    chosen = choose(IndexSettings(structure="ivf_pq"), layout.rows, dimension, sys.maxsize)
    structure = replace(chosen, name=f"ivf_pq-{layout.rows}")
    begun, cpu = time.perf_counter(), time.process_time()
    _, sample = sample_vectors(store, layout.parts, training_rows(structure), SEED)
    store.write(template_key(structure), train(sample, structure, SEED, threads))
    trained = time.perf_counter()
    for shard in layout.shards:
        build_shard(store, shard, structure, threads)
    built, cpu = time.perf_counter(), time.process_time() - cpu
    own, documents = sample_vectors(store, layout.parts, TUNING_QUERIES, SEED + 1)

    def find(each: Structure, queries: Vectors, count: int) -> Any:
        return find_candidates(store, layout.shards, each, queries, count, Filter(), threads)[1]

    tuned = tune(structure, layout.rows, IndexSettings().recall, documents, own, find)
    times = {
        "train_s": trained - begun,
        "add_s": built - trained,
        "build_s": built - begun,
        "build_cpu_s": cpu,
        "tune_s": time.perf_counter() - built,
    }
    return tuned, times


def _timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the median time of some calls, and what the last one returned."""
    times = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - begun)
    return median(times), result


def _recall(truth: Any, found: Any) -> float:
    shares = [np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]
    return round(float(np.mean(shares)), 4)


def _resident(
    store: LocalStore, layout: Layout, structure: Structure, options: argparse.Namespace
) -> dict[str, float]:
    """Measure, in a process of its own for each form, what its search holds in memory."""
    task = {
        "folder": str(store.root),
        "parts": [[part.name, part.rows] for part in layout.parts],
        "shard_parts": layout.shard_parts,
        "structure": asdict(structure),
        "threads": options.threads,
    }
    held = {}
    for form in FORMS:
        command = [sys.executable, "-m", "benchmarks.resident", json.dumps(task | {"form": form})]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        held[form] = float(done.stdout) / layout.rows
    return held


if __name__ == "__main__":
    main()
