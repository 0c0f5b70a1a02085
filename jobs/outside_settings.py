"""Where rows that another tool made are, and which of their columns is what."""

from typing import Any, Literal

from pydantic import Field

from cluster.settings import Settings


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


def completed(data: Any) -> Any:
    """Fill in what a recipe with a `dataset` need not say: who writes, and how much."""
    if not isinstance(data, dict) or data.get("dataset") is None:
        return data
    alone = {"method": {"name": "outside"}, "teacher": {"backend": "none"}, "targets": {"rows_per_label": 1}}
    return alone | data
