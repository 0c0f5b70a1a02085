"""The embedding pass: Ray Data hands parts to a pool of encoders, which write vectors to the store.

What flows through Ray are the names of parts and counts: the memory of the driver and of the object store
does not grow with the corpus.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.errors import DataError, ModelError, StorageError, UserError
from cluster.storage import Store
from retrieval.documents import DOCUMENT_SCHEMA, from_table
from retrieval.encoder import Encoder
from retrieval.layout import Part
from retrieval.settings import EncoderSettings
from retrieval.tables import read_table
from retrieval.vectors import write_vectors

_MOST_BLOCKS = 1_000
_REPLICAS_ON_A_NODE = 8
_CORES_OF_A_GPU = 8
_CALLS = 3
"""Parts an encoder has in hand: one in its forward pass, one read and tokenised before, one written after."""
# Tensors of megabytes come and go in threads: kept in one heap, they cost no page faults each time.
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
}
_ERRORS: dict[str, type[UserError]] = {cls.__name__: cls for cls in (DataError, ModelError, StorageError)}


@dataclass(frozen=True, slots=True)
class Embedded:
    """A part that was encoded: when, in seconds since 1970, and how many tokens of its texts were read."""

    rows: int
    tokens: int
    started: float
    ended: float


class PartEncoder:
    """What each actor of the pool runs: read a part, encode it, write its vectors in half precision.

    Doing a part twice is harmless: it is put whole under its one name.
    """

    def __init__(self, store: Store, settings: EncoderSettings, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        os.environ |= {"TOKENIZERS_PARALLELISM": str(threads > 1).lower(), "RAYON_NUM_THREADS": str(threads)}
        self._store = store
        self._encoder: Encoder | ModelError
        try:
            self._encoder = Encoder(settings)
        except ModelError as error:
            # Ray Data would try an actor that cannot start again and again.
            self._encoder = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        (row,) = batch.to_pylist()
        done: dict[str, Any] = {"rows": 0, "tokens": 0, "started": time.time(), "error": "", "message": ""}
        try:
            done["tokens"] = self._encode(Part(row["name"], row["rows"]))
            done["rows"] = row["rows"]
        except (DataError, ModelError, StorageError) as error:
            # As data, because Ray Data keeps of an error that is raised only its words.
            done |= {"error": type(error).__name__, "message": str(error)}
        return pa.Table.from_pylist([done | {"ended": time.time()}])

    def _encode(self, part: Part) -> int:
        if isinstance(self._encoder, ModelError):
            raise self._encoder
        documents = read_table(self._store, part.documents_key, DOCUMENT_SCHEMA.names)
        if documents.num_rows != part.rows:
            raise StorageError(
                f"{self._store.url}/{part.documents_key}: holds {documents.num_rows} documents instead of "
                f"{part.rows}; remove the index folder and build it again"
            )
        tokens = self._encoder.tokenise([document.titled_text for document in from_table(documents)])
        write_vectors(self._store, part, self._encoder.encode_tokens(tokens))
        return sum(map(len, tokens))


def embed(
    store: Store, parts: Sequence[Part], settings: EncoderSettings, progress: Callable[[str, int, int], None]
) -> list[Embedded]:
    """Encode the parts that have no vectors yet, in any order, and return what was done."""
    present = set(store.list("vectors"))
    pending = [part for part in parts if part.vectors_key not in present]
    total = sum(part.rows for part in parts)
    done = total - sum(part.rows for part in pending)
    progress("embed", done, total)
    finished = []
    for embedded in _encoded(store, pending, settings) if pending else ():
        finished.append(embedded)
        done += embedded.rows
        progress("embed", done, total)
    return finished


def _encoded(store: Store, pending: Sequence[Part], settings: EncoderSettings) -> Iterator[Embedded]:
    import ray

    replicas, threads, gpus = _pool(settings)
    with ray.data.DataContext.current(_context()):
        dataset = ray.data.from_items(
            [{"name": part.name, "rows": part.rows} for part in pending],
            override_num_blocks=min(len(pending), _MOST_BLOCKS),
        ).map_batches(
            PartEncoder,
            fn_constructor_args=(store, settings, threads),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(replicas, len(pending)),
                max_tasks_in_flight_per_actor=_CALLS,
                max_concurrent_calls_per_actor=_CALLS,
                enable_true_multi_threading=True,
            ),
            num_cpus=threads,
            num_gpus=gpus,
            runtime_env={"env_vars": _MALLOC},
        )
        for row in dataset.iter_rows():
            if row["error"]:
                raise _ERRORS[row["error"]](row["message"])
            yield Embedded(int(row["rows"]), int(row["tokens"]), row["started"], row["ended"])


def _pool(settings: EncoderSettings) -> tuple[int, int, int]:
    """Return how many replicas there are to be, and the cores and GPUs of each.

    Without GPUs single threads waste least, but each replica costs some 0.7 GB: on large machines they share
    cores. A GPU wants several cores, which tokenise for it.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    with_gpus = [node for node in nodes if node.get("GPU", 0) >= 1]
    if with_gpus:
        gpus = sum(int(node["GPU"]) for node in with_gpus)
        threads = min(int(node.get("CPU", 0) / node["GPU"]) for node in with_gpus)
        return settings.replicas or gpus, max(1, min(threads, _CORES_OF_A_GPU)), 1
    cores = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    threads = max(1, min(cores, default=1) // _REPLICAS_ON_A_NODE)
    return settings.replicas or max(1, sum(count // threads for count in cores)), threads, 0


def _context() -> Any:
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It would warn that the bars are off, which they are on purpose.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # A large encoder on a slow disk, or a wait for capacity, is no reason to give up the night.
    context.execution_no_progress_timeout_s = -1
    return context
