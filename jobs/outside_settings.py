"""Where rows that another tool made are, and which of their columns is what."""

import re
from typing import Any, Literal

from pydantic import Field

from cluster.errors import DataError
from cluster.settings import Settings
from retrieval.settings import CorpusSettings
from synth.task import TaskSettings


class DatasetSettings(Settings):
    """A dataset from elsewhere, measured as it is: nothing is filtered, and duplicates stay."""

    path: str
    """File or folder, local or `s3://bucket/prefix`: Parquet, CSV, JSONL, or saved by `save_to_disk`."""
    format: Literal["auto", "jsonl", "parquet", "csv", "dataset"] = "auto"
    """auto goes by the names of the files."""
    label: str = "label"
    """Column of the label. The columns of the texts are those of the task: `text`, and its `columns`."""
    labels: dict[str, str] = {}
    """Labels of the task by what stands in that column, where that is something else, such as `0: World`."""
    bad_rows: Literal["stop", "refuse"] = "stop"
    """What a row that cannot be used does: stop with its place, or be left out and counted."""
    refused_share: float = Field(default=0.05, gt=0, le=1)
    """Share of such rows above which it stops after all."""


def corpus_of(settings: DatasetSettings, task: TaskSettings) -> CorpusSettings:
    """Return how its files are read."""
    others = [column_of(task, name) for name in task.fields if name != "text"]
    return CorpusSettings(
        path=settings.path,
        format=settings.format,
        text=(column_of(task, "text"),),
        title=None,
        metadata=(settings.label, *others),
        bad_rows=settings.bad_rows,
    )


def column_of(task: TaskSettings, field: str) -> str:
    """Return the column that holds a field of a task."""
    return task.columns.get(field, field)


def check_dataset(settings: DatasetSettings, task: TaskSettings) -> None:
    """Find the files, without reading them; DataError when there are none."""
    from retrieval.reading.files import unhashed_files

    try:
        unhashed_files(corpus_of(settings, task))
    except DataError as error:
        raise of_dataset(error) from error


_KEYS = {
    "set corpus.text": "set the task's columns, or dataset.label",
    "set corpus.long to truncate or chunk": "shorten it",
    "corpus.": "dataset.",
}
"""What messages of whoever reads a corpus mean here."""


def of_dataset(error: DataError) -> DataError:
    """Return an error of reading as one of the dataset: its remedies name keys that there are."""
    message = re.sub(r"^corpus ", "", str(error))
    for corpus, dataset in _KEYS.items():
        message = re.sub(rf"(?<![/\w]){re.escape(corpus)}(?![/\d])", dataset, message)
    return DataError(f"dataset: {message}")


def completed(data: Any) -> Any:
    """Fill in what a recipe with a `dataset` need not say: who writes, and how much."""
    if not isinstance(data, dict) or data.get("dataset") is None:
        return data
    alone = {"method": {"name": "outside"}, "teacher": {"backend": "none"}, "targets": {"rows_per_label": 1}}
    return alone | data
