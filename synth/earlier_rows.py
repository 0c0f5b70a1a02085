"""Rows that were made before and are the input of a run: a JSONL file, or the dataset of an earlier run."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cluster.errors import DataError
from cluster.settings import digest
from synth.task import Gold, TaskSettings, read_gold

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_BLOCK = 1 << 20


def rows_digest(where: str) -> str:
    """Hash the content of the files that rows lie in, whatever they are called; DataError when none do."""
    made = hashlib.blake2b(digest_size=16)
    with _told(where):
        system, paths = _files(where)
        for path in paths:
            with system.open_input_file(path) as file:
                while block := file.read(_BLOCK):
                    made.update(block)
    return made.hexdigest()


def read_rows(where: str, settings: TaskSettings) -> list[Gold]:
    """Read and check rows of a task; DataError names file and row.

    where is a JSONL file (plain, .gz or .zst) as for gold rows, or a run folder or its `data/`, here or at
    `s3://`. The id of a row is that which it has in the dataset, and in a JSONL file the hash of its content.
    """
    with _told(where):
        system, paths = _files(where)
        if not paths[0].endswith(".parquet"):
            return list(read_gold(Path(paths[0]), settings))
        rows = {row.id: row for path in paths for row in _rows(system, path, settings)}
    if not rows:
        raise DataError(f"{where}: holds no rows")
    return list(rows.values())


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what Arrow meets with into a message."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        told = str(error).splitlines()[0][:300]
        raise DataError(f"{where}: cannot be read ({told}); check the place and the files") from error


def _files(where: str) -> tuple["FileSystem", list[str]]:
    """Return a file system and the paths of the files that hold the rows: one, or the shards of a dataset."""
    from pyarrow import fs

    # Not by `cluster.storage`: a method stays light, and nothing is written here.
    far = "://" in where
    system, path = fs.FileSystem.from_uri(where) if far else (fs.LocalFileSystem(), where)
    kind = system.get_file_info(path).type
    if kind == fs.FileType.NotFound:
        raise DataError(f"{where}: is not there; name a JSONL file, or the folder of an earlier run")
    if kind == fs.FileType.File:
        if isinstance(system, fs.LocalFileSystem) or path.endswith(".parquet"):
            return system, [path]
        raise DataError(f"{where}: JSONL files are read from a folder here; name the folder of a run there")
    for folder in (f"{path}/data", path):
        found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        if shards := sorted(each.path for each in found if each.path.endswith(".parquet")):
            return system, shards
    raise DataError(f"{where}: holds no dataset; name the folder of a run that has one, or a JSONL file")


def _rows(system: "FileSystem", path: str, settings: TaskSettings) -> Iterator[Gold]:
    """Yield the rows of one shard."""
    import pyarrow.parquet as pq

    with system.open_input_file(path) as file:
        shard = pq.ParquetFile(file)
        schema = shard.schema_arrow
        names, wanted = _names(schema), [*settings.fields, "label"]
        if lacking := [name for name in wanted if name not in schema.names]:
            raise DataError(f"{path}: has no column {', '.join(lacking)}; it is no dataset of this task")
        if pa.types.is_list(schema.field("label").type):
            raise DataError(f"{path}: its rows have several labels each; rows of one label are taken")
        columns = wanted + (["id"] if "id" in schema.names else [])
        for batch in shard.iter_batches(columns=columns):
            for row in batch.to_pylist():
                yield _row(row, names, path, settings)


def _row(row: dict[str, Any], names: list[str], origin: str, settings: TaskSettings) -> Gold:
    label = row["label"]
    if isinstance(label, int):
        label = names[label] if 0 <= label < len(names) else label
    if label not in settings.labels:
        known = ", ".join(settings.labels)
        raise DataError(f"{origin}: label {label!r} is unknown; the task has {known}")
    fields = {name: row[name] for name in settings.fields}
    if empty := [name for name, text in fields.items() if not isinstance(text, str) or not text.strip()]:
        raise DataError(f"{origin}: row {row.get('id')}: {empty[0]!r} must be a text that is not empty")
    return Gold(str(row.get("id") or digest([fields, label])[:16]), fields, label)


def _names(schema: pa.Schema) -> list[str]:
    """Return the names behind the numbers of the label column, as Hugging Face keeps them."""
    told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    label = told.get("info", {}).get("features", {}).get("label", {})
    return [str(name) for name in label.get("names", ())]
