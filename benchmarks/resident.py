"""What a form of vectors holds in memory when it is searched: one process a form, for benchmarks.index.

Counted are the memory that the process has allocated beyond what it had before, and the pages of FAISS files
that it maps, all of them, read yet or not. The exact vectors that an inverted index maps for the comparison
of its candidates do not count: their pages can be dropped at any time.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cluster.storage import LocalStore
from retrieval.inverted import shard_key
from retrieval.layout import Layout, Part
from retrieval.manifest import Structure
from retrieval.rank import Filter
from retrieval.shards import search_shards
from retrieval.vectors import map_vectors

FORMS = ("ivf", "fp32", "fp16")
_WARM_ROWS = 10


def main() -> None:
    task = json.loads(sys.argv[1])
    store = LocalStore(Path(task["folder"]))
    layout = Layout(tuple(Part(name, rows) for name, rows in task["parts"]), tuple(task["shard_parts"]))
    queries = map_vectors(store, layout.parts[0])[:1_000].astype(np.float32)
    # What the libraries take for any search is no part of a structure.
    _search_flat(queries)
    first = Layout(layout.parts[:1], (1,))
    search_shards(store, first.shards, Structure(), queries, 500, Filter(), task["threads"])
    before = _allocated()
    if task["form"] == "ivf":
        structure = Structure(**task["structure"])
        search_shards(store, layout.shards, structure, queries, 500, Filter(), task["threads"])
        mapped = sum((store.root / shard_key(shard, structure)).stat().st_size for shard in layout.shards)
        print(_allocated() - before + mapped)
    else:
        kept = _flat(store, layout, task["form"] == "fp16")
        _ = kept.search(queries[:_WARM_ROWS], 500) if task["form"] == "fp32" else kept.sum(dtype=np.float32)
        print(_allocated() - before)


def _flat(store: LocalStore, layout: Layout, half: bool) -> Any:
    import faiss

    if half:
        return np.concatenate([map_vectors(store, part) for part in layout.parts])
    dimension = map_vectors(store, layout.parts[0]).shape[1]
    index = faiss.IndexFlatIP(dimension)
    for part in layout.parts:
        index.add(map_vectors(store, part).astype(np.float32))
    return index


def _search_flat(vectors: Any) -> None:
    import faiss

    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    index.search(vectors, 500)


def _allocated() -> int:
    """Return the bytes this process has for itself, without mapped files, once what is free went back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no RssAnon: memory can be measured on Linux only")


if __name__ == "__main__":
    main()
