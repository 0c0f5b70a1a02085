"""Tokenising many rows: Ray Data leaves blocks of tokens that all workers of a node read where they lie."""

import io
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Store, arrow_place
from training.dataset import Texts, TokenisedBlocks, TokenisedTexts
from training.learner import new_reader
from training.reader import Reader
from training.records import TrainingJob

MANY = 20_000
"""Rows from which on Ray Data tokenises; fewer are done by each worker sooner than Ray Data starts."""
_FILE_ROWS = 65_536
_BATCH_ROWS = 4096


def prepared(job: TrainingJob, table: Any, scratch: Store, many: int = MANY) -> TrainingJob:
    """Return the job with its rows where every worker finds them; the driver calls it.

    Texts of many rows go through Parquet files in scratch to Ray Data, which tokenises them on all nodes; an
    earlier attempt's files are taken as they are. Errors: ModelError.
    """
    import ray

    if len(table) < many:
        return replace(job, rows=ray.put(table))
    new_reader(job)  # What is wrong with it is told here, not by a task.
    keys = written(table, scratch, f"rows-{job.fingerprint}")
    light = table.drop_columns(["text"])
    return replace(job, rows=ray.put(light), blocks=tuple(token_blocks(job, scratch, keys)))


def texts_of(job: TrainingJob, table: Any, reader: Reader) -> Texts:
    """Return the tokens of a job's rows; a worker calls it. Blocks stay in the memory the node shares."""
    import ray

    if not job.blocks:
        return reader(table["text"].to_pylist())
    return joined(ray.get(list(job.blocks)), reader.pad_id)


def joined(tables: Sequence[pa.Table], pad_id: int) -> TokenisedBlocks:
    """Return the texts of tables with a column `tokens`, in order, without copying a token."""
    blocks = tuple(
        TokenisedTexts(chunk.values.to_numpy(), chunk.offsets.to_numpy(), pad_id)
        for table in tables
        for chunk in table["tokens"].chunks
    )
    firsts = np.concatenate([[0], np.cumsum([len(block) for block in blocks], dtype=np.int64)])
    return TokenisedBlocks(blocks, firsts.astype(np.int64))


def token_blocks(job: TrainingJob, store: Store, keys: Sequence[str]) -> list[Any]:
    """Tokenise the column `text` of Parquet files of a store; return Ray references to tables of `tokens`.

    The tables, list<int32> each, are in the order of the rows. Needs a Ray session.
    """
    import ray

    filesystem, folder = arrow_place(store)
    with ray.data.DataContext.current(_context()):
        texts = ray.data.read_parquet(
            [f"{folder}/{key}" for key in keys], filesystem=filesystem, columns=["text"]
        )
        tokens = texts.map_batches(
            _tokens, fn_args=(job,), batch_size=_BATCH_ROWS, batch_format="pyarrow", num_cpus=1
        )
        found: list[Any] = tokens.to_arrow_refs()
    return found


_READERS: dict[str, Reader] = {}


def _tokens(batch: pa.Table, job: TrainingJob) -> pa.Table:
    """Tokenise one batch in a task; a process keeps its reader from one task to the next."""
    if job.fingerprint not in _READERS:
        _READERS.clear()
        _READERS[job.fingerprint] = new_reader(job)
    texts = _READERS[job.fingerprint](batch["text"].to_pylist())
    starts = pa.array(texts.starts, pa.int32())
    return pa.table({"tokens": pa.ListArray.from_arrays(starts, pa.array(texts.tokens, pa.int32()))})


def written(table: Any, scratch: Store, folder: str) -> list[str]:
    """Write the texts as Parquet files of a folder, those that are not there yet, and return their keys."""
    keys = []
    for key, part in _parts(table, folder):
        if not scratch.exists(key):
            file = io.BytesIO()
            pq.write_table(part, file, compression="zstd", row_group_size=_FILE_ROWS // 4)
            scratch.write(key, file.getvalue())
        keys.append(key)
    return keys


def _parts(table: Any, folder: str) -> Iterator[tuple[str, Any]]:
    for number, start in enumerate(range(0, len(table), _FILE_ROWS)):
        yield f"{folder}/part-{number:05d}.parquet", table.slice(start, _FILE_ROWS).select(["text"])


def _context() -> Any:
    import ray

    logging.getLogger("ray.data").setLevel(logging.WARNING)
    # It would warn that the bars are off, which they are on purpose.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The order of the rows is that of their targets.
    context.execution_options.preserve_order = True
    return context
