"""Classifying a corpus: Ray Data reads it and feeds a pool of actors that tokenise, predict and write parts.

A part of the corpus is one row on its way through Ray, so that what an actor takes is what it commits, and
parts that were finished are skipped. Actors tokenise and write in threads beside the forward pass.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from cluster.errors import DataError, ModelError, StorageError, UserError
from cluster.storage import Store
from retrieval.reading.places import is_remote
from retrieval.tables import read_table
from training.corpus_plan import (
    DATA,
    CorpusPlan,
    Reading,
    empty_part,
    part_key,
    plan_corpus,
    read_parts,
    split_read,
)
from training.corpus_report import MANIFEST, Books, CorpusReport, closed, finished_report
from training.part_predictor import PartPredictor, packed
from training.student_place import StudentPlace

_CALLS, _CALLS_WITH_GPU = 2, 3
"""Parts an actor has in hand: one in its forward pass, one tokenised before; on a GPU, one written after.

More would wait there at the end while another actor stands idle.
"""
_REPLICAS_ON_A_NODE = 8
_CORES_OF_A_GPU = 8
_SHARE_OF_ACTORS = 0.75
"""Of their cores, which is what actors ask for: the rest leaves room for the tasks that read."""
_CORES_OF_A_READER = 0.25
_BLOCK_BYTES = 1 << 16
"""Below the size of a part, so that each goes on as soon as it is read."""
# Tensors of megabytes come and go in threads: kept in one heap, they cost no page faults each time.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}
_ERRORS: dict[str, type[UserError]] = {cls.__name__: cls for cls in (DataError, ModelError, StorageError)}


def predict_corpus(
    student: StudentPlace, reading: Reading, out: Store, progress: Callable[[int, int, int], None]
) -> CorpusReport:
    """Classify a corpus into `data/part-*.parquet` of a folder, going on where an earlier call stopped.

    progress is told the rows done, the splits read and their number. `manifest.json`, written last, vouches
    for the whole. Needs a Ray session; memory does not grow with the corpus. Errors: DataError, ModelError,
    StorageError, FingerprintError.
    """
    plan = plan_corpus(out, reading, student.revision())
    if out.exists(MANIFEST):
        return finished_report(out)
    done = frozenset(out.list(DATA))
    pending = [split for split in range(len(plan.splits)) if not _complete(out, split, done)]
    books = Books(len(plan.splits) - len(pending))
    for key in sorted(done):
        books.add_earlier(read_table(out, key, ["label"]))
    progress(books.rows, books.splits, len(plan.splits))
    for each in _predicted(student, reading, out, plan, pending, done) if pending else ():
        books.add(each)
        progress(books.rows, books.splits, len(plan.splits))
    report = closed(out, plan, reading.corpus, books)
    out.write(MANIFEST, json.dumps(asdict(report), ensure_ascii=False, indent=1).encode())
    return report


def _complete(out: Store, split: int, done: frozenset[str]) -> bool:
    found = split_read(out, split)
    return found is not None and all(part_key(split, number) in done for number in range(found.parts))


def _predicted(
    student: StudentPlace,
    reading: Reading,
    out: Store,
    plan: CorpusPlan,
    pending: Sequence[int],
    done: frozenset[str],
) -> Iterator[Mapping[str, Any]]:
    """Yield what the actors did: parts as they are finished, and ends of splits."""
    import ray

    replicas, threads, gpus = _pool()
    calls = _CALLS_WITH_GPU if gpus else _CALLS
    with ray.data.DataContext.current(_context()):
        dataset = (
            ray.data.from_items([{"split": split} for split in pending], override_num_blocks=len(pending))
            .map_batches(
                _read,
                fn_args=(out, plan, reading, done),
                batch_size=1,
                batch_format="pyarrow",
                num_cpus=_CORES_OF_A_READER,
                label_selector=_where(plan),
            )
            .map_batches(
                PartPredictor,
                fn_constructor_args=(student, out, reading.keep_text, threads),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    size=min(replicas, plan.most_parts()),
                    max_tasks_in_flight_per_actor=calls,
                    max_concurrent_calls_per_actor=calls,
                    enable_true_multi_threading=True,
                ),
                num_cpus=threads * _SHARE_OF_ACTORS,
                num_gpus=gpus,
                runtime_env={"env_vars": _MALLOC},
            )
        )
        for row in dataset.iter_rows():
            if row["error"]:
                raise _ERRORS[row["error"]](row["message"])
            yield row


def _read(
    batch: pa.Table, out: Store, plan: CorpusPlan, reading: Reading, done: frozenset[str]
) -> Iterator[pa.Table]:
    """Yield the parts of a split, each packed into one row, then a row without a key."""
    nothing = empty_part(reading)
    for split in batch["split"].to_pylist():
        try:
            for key, rows in read_parts(out, plan, split, reading, done):
                yield packed(key, rows)
        except (DataError, StorageError) as error:
            yield packed("", nothing, type(error).__name__, str(error))
        else:
            yield packed("", nothing)


def _where(plan: CorpusPlan) -> dict[str, str] | None:
    """Return the node that reads the corpus: files of this machine here, for others may not have them."""
    import ray

    if all(is_remote(piece.url) for split in plan.splits for piece in split):
        return None
    return {"ray.io/node-id": ray.get_runtime_context().get_node_id()}


def _pool() -> tuple[int, int, int]:
    """Return how many actors there are to be, and the cores and GPUs of each.

    Without GPUs single threads waste least, but each actor holds the model: on large machines they share
    cores. A GPU wants several cores, which tokenise for it.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        threads = min(int(node.get("CPU", 0) / node["GPU"]) for node in with_gpus)
        return sum(int(node["GPU"]) for node in with_gpus), max(1, min(threads, _CORES_OF_A_GPU)), 1
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    threads = max(1, min(cores, default=1) // _REPLICAS_ON_A_NODE)
    return max(1, sum(count // threads for count in cores)), threads, 0


def _context() -> Any:
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It would warn that the bars are off, which they are on purpose.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = _BLOCK_BYTES
    # A large student on a slow disk, or a wait for capacity, is no reason to give up the night.
    context.execution_no_progress_timeout_s = -1
    return context
