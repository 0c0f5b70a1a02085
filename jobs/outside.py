"""Take rows that another tool made into the run folder, as its dataset, for all that measures one."""

import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.rundir import check_fingerprint, read_metrics, record_run, update_metrics
from cluster.settings import digest
from jobs.outside_settings import DatasetSettings, column_of, corpus_of
from jobs.stage import Stage
from retrieval.reading.counting import Words
from retrieval.reading.files import corpus_files
from retrieval.reading.places import open_file
from retrieval.reading.records import CorpusFile, Piece
from retrieval.reading.stream import Read, read_pieces
from retrieval.settings import CorpusSettings
from synth.columns import described
from synth.task import TaskSettings

_ID_LETTERS = 32
_SHARD_ROWS = 100_000
_SHOWN = 3


def take_in(stage: Stage, settings: DatasetSettings) -> None:
    """Write the rows of another dataset to `data/`, once; DataError names file, row and remedy.

    FingerprintError when the run was begun with other rows. A row's id is a hash of its content and of how
    many rows before it have the same.
    """
    corpus = corpus_of(settings, stage.task.settings)
    try:
        files = corpus_files(corpus)
        # Where it lies does not matter, nor does what becomes of rows that cannot be used.
        how = settings.model_dump(mode="json", exclude={"path", "bad_rows", "refused_share"})
        content = {
            "files": digest([file.hash for file in files]),
            "columns": how,
            "task": stage.task.identity(),
        }
        check_fingerprint(stage.run, "dataset", content, bool(read_metrics(stage.run).get("dataset")))
        record_run(stage.run, stage.recipe.run, stage.recipe.model_dump(mode="json"))
        if not read_metrics(stage.run).get("dataset"):
            _take_in(stage, settings, corpus, files)
    except DataError as error:
        raise DataError(f"dataset: {error}") from error


def _take_in(
    stage: Stage, settings: DatasetSettings, corpus: CorpusSettings, files: Sequence[CorpusFile]
) -> None:
    task, refused = stage.task.settings, Counter[str]()
    rows = list(_rows(settings, corpus, files, task, refused))
    if not rows:
        raise DataError(f"{settings.path}: holds no rows; check dataset.path")
    if refused.total() > settings.refused_share * (len(rows) + refused.total()):
        reasons = ", ".join(f"{count} {reason}" for reason, count in refused.items())
        raise DataError(f"{settings.path}: {refused.total():,} rows cannot be used ({reasons}); mend them")
    shards = [rows[start : start + _SHARD_ROWS] for start in range(0, len(rows), _SHARD_ROWS)]
    for number, shard in enumerate(shards):
        sink = io.BytesIO()
        pq.write_table(described(pa.Table.from_pylist(shard, _schema(task)), stage.task.labels), sink)
        stage.run.write(f"data/train-{number:05d}-of-{len(shards):05d}.parquet", sink.getvalue())
    counts = Counter(stage.task.labels[row["label"]] for row in rows)
    per_label = {label: counts[label] for label in stage.task.labels}
    dataset = {
        "rows": len(rows),
        "per_label": per_label,
        "surplus": {},
        "mean_words": round(sum(len(row["text"].split()) for row in rows) / len(rows), 2),
        "digest": digest([list(row.values()) for row in rows]),
        "target": per_label,
        "from": settings.path,
        "refused": dict(refused),
    }
    about = {"name": task.name, "instruction": task.instruction, "text_type": task.text_type}
    update_metrics(stage.run, task={**about, "labels": dict(task.labels)}, dataset=dataset)
    left = f"; {refused.total():,} rows cannot be used and were left out" if refused else ""
    stage.progress.step("taken_in", f"Dataset: {len(rows):,} rows of {settings.path}{left}", rows=len(rows))


def _rows(
    settings: DatasetSettings,
    corpus: CorpusSettings,
    files: Sequence[CorpusFile],
    task: TaskSettings,
    refused: Counter[str],
) -> Iterator[dict[str, Any]]:
    """Yield the rows, with ids; what cannot be used stops them or is counted."""
    places = {label: place for place, label in enumerate(task.labels)}
    names, seen = _names(files, settings), Counter[str]()
    for outcome in read_pieces((Piece(file.url, file.format) for file in files), corpus, Words()):
        if not isinstance(outcome, Read):
            refused[outcome.refusal.reason] += 1
            continue
        document = outcome.document
        given = document.metadata.get(settings.label, "")
        label = names.get(given, given)
        fields = {name: document.metadata.get(column_of(task, name), "") for name in task.fields}
        fields["text"] = document.text
        lacking = [name for name, value in fields.items() if not value.strip()]
        if label not in places or lacking:
            if settings.bad_rows == "stop":
                raise DataError(f"{outcome.place}: {_why(settings, task, given, lacking)}")
            refused["no_field" if lacking else "unknown_label"] += 1
            continue
        content = blake2b(json.dumps([fields, label]).encode(), digest_size=_ID_LETTERS // 2).hexdigest()
        seen[content] += 1
        yield {**fields, "label": places[label], "id": digest([content, seen[content]])}


def _why(settings: DatasetSettings, task: TaskSettings, given: str, lacking: Sequence[str]) -> str:
    if lacking:
        return f"column {column_of(task, lacking[0])!r} must be a text that is not empty"
    known = ", ".join(task.labels)
    return (
        f"column {settings.label!r} holds {given!r}, which is no label; the task has {known}; "
        "dataset.label names another column, dataset.labels says what its values mean"
    )


def _names(files: Sequence[CorpusFile], settings: DatasetSettings) -> Mapping[str, str]:
    """Return labels by what stands for them: as the recipe says, or as Hugging Face's Parquet does."""
    if settings.labels or files[0].format != "parquet":
        return settings.labels
    with open_file(files[0].url) as file:
        metadata = pq.read_schema(file).metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {str(place): name for place, name in enumerate(features.get(settings.label, {}).get("names", ()))}


def _schema(task: TaskSettings) -> pa.Schema:
    return pa.schema(
        [*((name, pa.string()) for name in task.fields), ("label", pa.int64()), ("id", pa.string())]
    )
