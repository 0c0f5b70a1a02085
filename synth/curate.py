"""From ledger to dataset: the first rows in plan order that fill every label's target, without duplicates.

The ledger is read twice, part by part: its narrow columns, to choose; then all of it, to write each row as
it becomes due. So memory grows with the number of rows and not with what they hold.
"""

import errno
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.choice import Choice, choose
from synth.columns import dataset_table
from synth.rows import ledger_schema
from synth.shelf import in_plan_order

SHARD_ROWS = 100_000
GROUP_ROWS = 10_000
_TOLD_ROWS = 500


@dataclass(frozen=True, slots=True)
class Dataset:
    """What curation made: rows by label, surplus by reason, and a digest of the rows in order."""

    rows: int
    per_label: Mapping[str, int]
    surplus: Mapping[str, int]
    mean_words: float
    digest: str


def curate(
    store: Store, fields: Sequence[str], targets: Mapping[str, int], near: float | None = None
) -> Dataset:
    """Write `data/train-*.parquet` from the ledger; the same ledger always gives the same files.

    near is how similar two rows may not be, as for `Quota`; with None only equal texts are left out.
    Nothing else may write to the ledger meanwhile. Shards are made in the local folder for temporary files,
    and so is room for rows that wait for an earlier one; StorageError when that disk is full.
    """
    return lay_out(store, fields, targets, choose(store, targets, near))


def lay_out(
    store: Store,
    fields: Sequence[str],
    targets: Mapping[str, int],
    choice: Choice,
    weights: pa.Table | None = None,
) -> Dataset:
    """Write the rows chosen from a ledger as `curate` does; targets name the task's labels in order.

    weights has the columns row_id and weight: then the dataset has a column `weight`, 1 where none is given.
    """
    shards, told = _layout(len(choice.rows)), _Told()
    sizes = [size for shard in shards for size in shard]
    with _scratch() as folder:
        groups = in_plan_order(read_ledger(store), choice.rows, sizes, folder)
        if not len(choice.rows):
            groups = iter([ledger_schema(fields).empty_table()])

        def made(group: pa.Table) -> pa.Table:
            told.add(group.select([*fields, "labels", "row_id"]))
            return dataset_table(_weighed(group, weights), fields, list(targets), choice.single)

        keys = _write(store, map(made, groups), [len(shard) for shard in shards], folder)
    for key in set(store.list("data")) - set(keys):
        store.delete(key)
    return Dataset(
        rows=len(choice.rows),
        per_label=choice.per_label,
        surplus=choice.surplus,
        mean_words=round(told.words / max(1, len(choice.rows)), 2),
        digest=told.hash.hexdigest(),
    )


def _weighed(rows: pa.Table, weights: pa.Table | None) -> pa.Table:
    if weights is None:
        return rows
    places = pc.index_in(rows["row_id"], value_set=weights["row_id"].combine_chunks())
    column = pc.fill_null(weights["weight"].combine_chunks().take(places.combine_chunks()), 1.0)
    return rows.append_column("weight", column.cast(pa.float32()))


def _layout(rows: int) -> list[list[int]]:
    """Return, for each shard, the rows of its groups; a dataset without rows has one empty shard."""
    shards = []
    for begin in range(0, max(1, rows), SHARD_ROWS):
        end = min(begin + SHARD_ROWS, rows)
        shards.append([min(GROUP_ROWS, end - at) for at in range(begin, max(begin + 1, end), GROUP_ROWS)])
    return shards


class _Told:
    """What is told about a dataset, added up while its rows pass."""

    def __init__(self) -> None:
        self.words = 0
        self.hash = blake2b(digest_size=16)

    def add(self, rows: pa.Table) -> None:
        """Count the words of some rows and hash all of their columns."""
        for start in range(0, rows.num_rows, _TOLD_ROWS):
            lot = rows.slice(start, _TOLD_ROWS).to_pydict()
            self.words += sum(len(text.split()) for text in lot["text"])
            told = json.dumps(list(zip(*lot.values(), strict=True)), ensure_ascii=False)
            # Without the brackets around them, and a comma after each, lots of any size give one sum.
            self.hash.update(told[1:-1].encode())
            self.hash.update(b", ")


def _write(store: Store, groups: Iterator[pa.Table], counts: Sequence[int], folder: Path) -> list[str]:
    """Write the groups, so many to each shard, and return the shards' keys."""
    first = next(groups)
    schema, rest = first.schema, chain([first], groups)
    path, keys = folder / "shard.parquet", []
    # No group keeps a name: each is let go before the next one is made.
    del first
    for number, count in enumerate(counts):
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for _ in range(count):
                writer.write_table(next(rest))
        keys.append(f"data/train-{number:05d}-of-{len(counts):05d}.parquet")
        store.upload(keys[-1], path)
    return keys


@contextmanager
def _scratch() -> Iterator[Path]:
    """Give a local folder that is gone afterwards; StorageError when its disk is full."""
    try:
        with tempfile.TemporaryDirectory(prefix="nightshift-") as folder:
            yield Path(folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageError(
            f"{tempfile.gettempdir()}: is full ({error.strerror}), and the dataset is put together there; "
            "free space, or name a folder on a larger disk in TMPDIR"
        ) from error
