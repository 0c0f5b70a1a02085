"""From vectors to something that is searched: choose a structure, train it, build its shards, tune it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cluster.errors import DataError, RunError
from cluster.storage import Store
from retrieval.fanout import ClusterSearch
from retrieval.inverted import shard_key, template_key
from retrieval.layout import Layout, Part, Shard
from retrieval.manifest import Index, Structure
from retrieval.remote import FAISS_ENVIRONMENT, TRIES, completed, own_errors
from retrieval.settings import IndexSettings
from retrieval.shards import build_shard, merge_shards
from retrieval.structure import choose, train, training_rows, tune
from retrieval.vectors import map_vectors, sample_vectors

SEED = 42
_TUNING_QUERIES = 200

Progress = Callable[[str, int, int], None]


def structure_vectors(
    store: Store,
    layout: Layout,
    settings: IndexSettings,
    fingerprint: str,
    grown: Index | None,
    progress: Progress,
) -> tuple[int, Structure, Layout]:
    """Build the shards that are missing; return the dimension, the structure as tuned and the final layout.

    grown is the index that this one adds documents to: its structure is kept as it was trained and tuned.
    """
    dimension = int(map_vectors(store, layout.parts[0]).shape[1])
    if grown is not None:
        _check_dimension(grown, dimension)
        structure = grown.structure
    else:
        chosen = choose(settings, layout.rows, dimension, _memory(settings))
        structure = replace(chosen, name=f"{chosen.kind}{chosen.code_bytes}-{fingerprint[:8]}")
        _train(store, layout.parts, structure, progress)
    _build(store, layout, structure, progress)
    if structure.kind == "exact" or grown is not None:
        return dimension, structure, layout
    if settings.merge:
        layout = _on_a_node(_merge, store, layout, structure)
    progress("tune", 0, 1)
    tuned = _tune(store, layout, structure, settings.recall)
    progress("tune", 1, 1)
    return dimension, tuned, layout


def _memory(settings: IndexSettings) -> int:
    import ray

    if settings.memory_gb is not None:
        return int(settings.memory_gb * 1e9)
    return int(ray.cluster_resources()["memory"]) // 4


def _check_dimension(grown: Index, dimension: int) -> None:
    if grown.manifest.dimension != dimension:
        raise DataError(
            f"index {grown.manifest.name}: has vectors of {grown.manifest.dimension} dimensions, the "
            f"encoder makes {dimension}; build the index anew with this encoder"
        )


def _train(store: Store, parts: Sequence[Part], structure: Structure, progress: Progress) -> None:
    if structure.kind == "exact" or store.exists(template_key(structure)):
        return
    progress("train", 0, 1)
    _on_a_node(_write_template, store, parts, structure)
    progress("train", 1, 1)


def _build(store: Store, layout: Layout, structure: Structure, progress: Progress) -> None:
    """Build every shard as a Ray task, and check that none is short; one that is there is not built again."""
    import ray

    shards = layout.shards
    threads = max(1, _cores() // len(shards))
    # A GPU, where there are some, finds the lists of vectors many times faster.
    gpus = 1 if structure.kind != "exact" and ray.cluster_resources().get("GPU", 0) else 0
    task = _task(_build_missing, threads, gpus)
    rows = 0
    progress("shard", 0, len(shards))
    at_once = max(1, int(ray.cluster_resources().get("CPU", 1)))
    for done, (_, built) in enumerate(
        completed(lambda shard: task.remote(store, shard, structure, threads), shards, at_once), 1
    ):
        rows += built
        progress("shard", done, len(shards))
    if rows != layout.rows:
        raise RunError(
            f"{store.url}: {layout.rows} documents were read but the shards hold {rows} vectors; "
            "remove the folder and build again"
        )


def _on_a_node(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function with all cores of a node, and a GPU where there are some; it gets the threads last."""
    import ray

    cores = _cores()
    task = _task(function, cores, 1 if ray.cluster_resources().get("GPU", 0) else 0)
    with own_errors():
        return ray.get(task.remote(*arguments, cores))


def _task(function: Callable[..., Any], cores: int, gpus: int) -> Any:
    import ray

    environment = FAISS_ENVIRONMENT
    return ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=TRIES, runtime_env=environment)(function)


def _cores() -> int:
    """Cores of the smallest node that has any."""
    import ray

    counts = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return min((count for count in counts if count), default=1)


def _write_template(store: Store, parts: Sequence[Part], structure: Structure, threads: int) -> None:
    _, sample = sample_vectors(store, parts, training_rows(structure), SEED)
    store.write(template_key(structure), train(sample, structure, SEED, threads))


def _build_missing(store: Store, shard: Shard, structure: Structure, threads: int) -> int:
    # A file is there whole or not at all, and its name says which rows it is for.
    if structure.kind != "exact" and store.exists(shard_key(shard, structure)):
        return shard.rows
    return build_shard(store, shard, structure, threads)


def _merge(store: Store, layout: Layout, structure: Structure, threads: int) -> Layout:
    return merge_shards(store, layout, structure)


def _tune(store: Store, layout: Layout, structure: Structure, recall: float) -> Structure:
    own, queries = sample_vectors(store, layout.parts, _TUNING_QUERIES, SEED + 1)
    return tune(structure, layout.rows, recall, queries, own, ClusterSearch(store, layout).find)
