"""Rows that another tool made, read and checked: fields, the label by its place in the task, and an id."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.settings import digest
from jobs.outside_settings import DatasetSettings, column_of, corpus_of
from retrieval.reading.counting import Words
from retrieval.reading.places import open_file
from retrieval.reading.records import CorpusFile, Piece
from retrieval.reading.stream import Read, Refused, read_pieces
from synth.task import TaskSettings

_HASH_BYTES = 16


def outside_rows(
    settings: DatasetSettings, task: TaskSettings, files: Sequence[CorpusFile], refused: Counter[str]
) -> Iterator[dict[str, Any]]:
    """Yield the rows, with ids; those that cannot be used are counted in refused, by reason.

    An id is a hash of a row's content and of how many rows before it have the same. DataError, where bad rows
    stop it, names file and row.
    """
    places, seen = {label: place for place, label in enumerate(task.labels)}, Counter[str]()
    for outcome, label in _labelled(settings, task, files):
        if not isinstance(outcome, Read):
            refused[outcome.refusal.reason] += 1
            continue
        document = outcome.document
        fields = {name: document.metadata.get(column_of(task, name), "") for name in task.fields}
        fields["text"] = document.text
        lacking = [name for name, value in fields.items() if not value.strip()]
        if label not in places or lacking:
            if settings.bad_rows == "stop":
                given = document.metadata.get(settings.label)
                raise DataError(f"{outcome.place}: {_why(settings, task, given, lacking)}")
            refused["no_field" if lacking else "unknown_label"] += 1
            continue
        content = blake2b(json.dumps([fields, label]).encode(), digest_size=_HASH_BYTES).hexdigest()
        seen[content] += 1
        yield {**fields, "label": places[label], "id": digest([content, seen[content]])}


def _labelled(
    settings: DatasetSettings, task: TaskSettings, files: Sequence[CorpusFile]
) -> Iterator[tuple[Read | Refused, str]]:
    """Yield what becomes of each row, with its label as the task has it."""
    for file in files:
        names = settings.labels or _class_names(file, settings.label)
        for outcome in read_pieces([Piece(file.url, file.format)], corpus_of(settings, task), Words()):
            given = outcome.document.metadata.get(settings.label, "") if isinstance(outcome, Read) else ""
            yield outcome, names.get(given, given)


def _why(settings: DatasetSettings, task: TaskSettings, given: str | None, lacking: Sequence[str]) -> str:
    if given is None:
        return f"has no column {settings.label!r}; dataset.label names another one"
    if lacking:
        return f"column {column_of(task, lacking[0])!r} must be a text that is not empty"
    known = ", ".join(task.labels)
    return (
        f"column {settings.label!r} holds {given!r}, which is no label; the task has {known}; "
        "dataset.label names another column, dataset.labels says what its values mean"
    )


def _class_names(file: CorpusFile, column: str) -> Mapping[str, str]:
    """Return labels by their numbers, as Hugging Face writes them into Parquet and Arrow files."""
    metadata = _metadata(file)
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {str(place): name for place, name in enumerate(features.get(column, {}).get("names", ()))}


def _metadata(file: CorpusFile) -> Mapping[bytes, bytes]:
    if file.format not in ("parquet", "arrow"):
        return {}
    try:
        with open_file(file.url) as opened:
            if file.format == "parquet":
                return pq.read_schema(opened).metadata or {}
            with pa.ipc.open_stream(pa.PythonFile(opened, "r")) as stream:
                return stream.schema.metadata or {}
    except pa.ArrowException:
        # Whoever reads its rows next says that it is damaged.
        return {}
