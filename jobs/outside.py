"""Take rows that another tool made into the run folder, as its dataset, for all that measures one."""

import io
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError, FingerprintError
from cluster.rundir import check_fingerprint, read_metrics, record_run, update_metrics
from cluster.settings import digest
from jobs.outside_rows import outside_rows
from jobs.outside_settings import DatasetSettings, corpus_of, of_dataset
from jobs.stage import Stage
from retrieval.reading.files import corpus_files
from retrieval.reading.records import CorpusFile
from synth.columns import described
from synth.task import TaskSettings

_SHARD_ROWS = 100_000


def take_in(stage: Stage, settings: DatasetSettings) -> None:
    """Write the rows of another dataset to `data/`, once; DataError names file, row and remedy.

    FingerprintError when the run was begun with other rows, or holds what a teacher wrote.
    """
    if "from" not in (read_metrics(stage.run).get("dataset") or {"from": None}):
        raise FingerprintError(
            f"{stage.run.url}: holds what a teacher wrote; name this run otherwise with --set run=NAME"
        )
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
            _take_in(stage, settings, files)
    except DataError as error:
        raise of_dataset(error) from error


def _take_in(stage: Stage, settings: DatasetSettings, files: Sequence[CorpusFile]) -> None:
    task, refused = stage.task.settings, Counter[str]()
    rows = list(outside_rows(settings, task, files, refused))
    if not rows and not refused:
        raise DataError(f"{settings.path}: holds no rows; check dataset.path")
    if not rows or refused.total() > settings.refused_share * (len(rows) + refused.total()):
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


def _schema(task: TaskSettings) -> pa.Schema:
    return pa.schema(
        [*((name, pa.string()) for name in task.fields), ("label", pa.int64()), ("id", pa.string())]
    )
