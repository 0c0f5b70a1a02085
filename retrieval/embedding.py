"""The embedding pass: Ray Data hands partitions to a pool of encoders, which write vectors to the store."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.errors import DataError, ModelError, StorageError, UserError
from cluster.storage import Store
from retrieval.documents import DOCUMENT_SCHEMA, from_table
from retrieval.encoder import Vectors, shared_encoder
from retrieval.manifest import Layout, documents_key, embeddings_key
from retrieval.partitions import read_table, write_table
from retrieval.settings import EncoderSettings

_MOST_BLOCKS = 1_000
_ERRORS: dict[str, type[UserError]] = {cls.__name__: cls for cls in (DataError, ModelError, StorageError)}


class PartitionEncoder:
    """What each actor of the pool runs: read a partition, encode it, write its vectors in half precision.

    Doing a partition twice is harmless: it is put whole under its one name.
    """

    def __init__(self, store: Store, settings: EncoderSettings) -> None:
        self._store = store
        self._settings = settings

    def __call__(self, batch: pa.Table) -> pa.Table:
        (partition,) = batch["partition"].to_pylist()
        done: dict[str, Any] = {"rows": 0, "error": "", "message": ""}
        try:
            done["rows"] = self._encode(partition)
        except (DataError, ModelError, StorageError) as error:
            # As data, because Ray Data keeps of an error that is raised only its words.
            done |= {"error": type(error).__name__, "message": str(error)}
        return pa.Table.from_pylist([done])

    def _encode(self, partition: int) -> int:
        table = read_table(self._store, documents_key(partition), DOCUMENT_SCHEMA.names)
        texts = [document.titled_text for document in from_table(table)]
        vectors = shared_encoder(self._settings).encode(texts, "document")
        columns = {"id": table["id"], "embedding": as_column(vectors)}
        write_table(self._store, embeddings_key(partition), pa.table(columns))
        return len(texts)


def embed(
    store: Store, layout: Layout, settings: EncoderSettings, progress: Callable[[str, int, int], None]
) -> None:
    """Encode the partitions that have no vectors yet; the order in which they finish does not matter."""
    present = set(store.list("embeddings"))
    pending = [n for n in range(layout.partitions) if embeddings_key(n) not in present]
    done = layout.rows - sum(layout.rows_in(n) for n in pending)
    progress("embed", done, layout.rows)
    if not pending:
        return
    for rows in _encoded(store, pending, settings):
        done += rows
        progress("embed", done, layout.rows)


def _encoded(store: Store, pending: Sequence[int], settings: EncoderSettings) -> Iterator[int]:
    import ray

    gpus = int(ray.cluster_resources().get("GPU", 0))
    # A core is left to the driver and to Ray, which shows on small machines.
    places = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)) - 1)
    size = min(settings.replicas or places, len(pending))
    with ray.data.DataContext.current(_context()):
        dataset = ray.data.from_items(
            [{"partition": number} for number in pending],
            override_num_blocks=min(len(pending), _MOST_BLOCKS),
        ).map_batches(
            PartitionEncoder,
            fn_constructor_args=(store, settings),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=size),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
        )
        for row in dataset.iter_rows():
            if row["error"]:
                raise _ERRORS[row["error"]](row["message"])
            yield int(row["rows"])


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


def as_column(vectors: Vectors) -> pa.FixedSizeListArray:
    """Return vectors, shape (rows, dimension), as an Arrow column in half precision."""
    flat = pa.array(vectors.astype(np.float16).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])


def read_vectors(store: Store, partition: int) -> Vectors:
    """Read the vectors of a partition, shape (rows, dimension), float32."""
    column = read_table(store, embeddings_key(partition), ["embedding"])["embedding"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    vectors: Vectors = flat.reshape(len(column), -1).astype(np.float32)
    return vectors
