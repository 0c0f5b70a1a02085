"""The rows that a student learns from: the dataset, the seeds, gold training rows, in any shares."""

import io
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from jobs.cartography import drawn_map
from jobs.stage import Stage
from synth.task import Gold
from training.cartography import filtered
from training.settings import StudentSettings

WEIGHT = "weight"
"""Column of a dataset that says how much each row counts; gold rows count 1."""


def training_rows(stage: Stage, settings: StudentSettings) -> pa.Table:
    """Return text, label by name (or several), id and perhaps weight: seeds first, the dataset last."""
    shares, parts = settings.rows, []
    if shares.seeds:
        parts.append(_share(gold_table(stage, stage.task.seeds), shares.seeds, shares.draw_seed))
    if shares.gold:
        parts.append(_share(_gold(stage, bool(shares.seeds)), shares.gold, shares.draw_seed))
    if shares.synthetic:
        dataset = dataset_rows(stage)
        if settings.cartography and stage.recipe.cartography is not None:
            dataset = filtered(dataset, drawn_map(stage, dataset, stage.recipe.cartography))
        parts.append(_share(dataset, shares.synthetic, shares.draw_seed))
    return parts[0] if len(parts) == 1 else _joined(parts)


def has_dataset(stage: Stage) -> bool:
    """Say whether the run holds a dataset with rows in it."""
    keys = [key for key in stage.run.list("data") if key.endswith(".parquet")]
    return any(pq.ParquetFile(io.BytesIO(stage.run.read(key))).metadata.num_rows for key in keys)


def dataset_rows(stage: Stage) -> pa.Table:
    """Return the whole dataset as a student reads it; DataError when there is none."""
    keys = [key for key in stage.run.list("data") if key.endswith(".parquet")]
    if not keys:
        raise DataError(f"{stage.run.url}: holds no dataset yet; run `nightshift synthesize` first")
    fields = stage.task.settings.fields
    files = [pq.ParquetFile(io.BytesIO(stage.run.read(key))) for key in keys]
    weighed = [WEIGHT] if all(WEIGHT in file.schema_arrow.names for file in files) else []
    columns = [*fields, "label", "id", *weighed]
    table = pa.concat_tables([file.read(columns=columns) for file in files])
    table = table.replace_schema_metadata(None)
    if not table.num_rows:
        raise DataError(f"{stage.run.url}/data: holds no rows; see why replies were rejected in the ledger")
    texts = [stage.task.as_one_text(row) for row in table.select(fields).to_pylist()]
    read = {"text": texts, "label": _names(stage, table["label"]), "id": table["id"]}
    return pa.table(read | {name: table[name].cast(pa.float32()) for name in weighed})


def gold_table(stage: Stage, rows: Iterable[Gold]) -> pa.Table:
    """Return gold rows as a student reads them."""
    listed = list(rows)
    labels: pa.Array
    if several_labels(stage):
        labels = pa.array([list(row.labels) for row in listed], pa.list_(pa.string()))
    else:
        labels = pa.array([row.label for row in listed], pa.string())
    texts = pa.array([stage.task.as_one_text(row.fields) for row in listed], pa.string())
    return pa.table({"text": texts, "label": labels, "id": pa.array([row.id for row in listed], pa.string())})


def several_labels(stage: Stage) -> bool:
    """Say whether rows of this run may have several labels: the dataset's do, or some gold row has."""
    if any(row.others for row in (*stage.plan.train, *stage.plan.test)):
        return True
    key = next((key for key in stage.run.list("data") if key.endswith(".parquet")), None)
    if key is None:
        return False
    schema = pq.ParquetFile(io.BytesIO(stage.run.read(key))).schema_arrow
    return bool(pa.types.is_list(schema.field("label").type))


def _gold(stage: Stage, beside_seeds: bool) -> pa.Table:
    """Return the gold training rows that are neither test rows nor, beside them, seeds."""
    taken = {row.id for row in stage.plan.test}
    if beside_seeds:
        taken |= {seed.id for seed in stage.task.seeds}
    rows = [row for row in stage.plan.train if row.id not in taken]
    if not rows:
        raise DataError(f"{stage.task.settings.train}: all rows are test rows or seeds too; give others")
    return gold_table(stage, rows)


def _names(stage: Stage, labels: pa.ChunkedArray) -> pa.Array:
    """Return labels by name; the dataset holds their places."""
    names = stage.task.labels
    if pa.types.is_list(labels.type):
        listed = [[names[place] for place in places] for places in labels.to_pylist()]
        return pa.array(listed, pa.list_(pa.string()))
    several = several_labels(stage)
    named = [names[place] for place in labels.to_pylist()]
    return pa.array([[name] for name in named], pa.list_(pa.string())) if several else pa.array(named)


def _share(rows: pa.Table, share: float, seed: int) -> pa.Table:
    """Draw a share of the rows of each label, at least one; they keep their order, and more hold fewer."""
    if share >= 1:
        return rows
    groups: dict[str, list[int]] = {}
    for place, label in enumerate(rows["label"].to_pylist()):
        groups.setdefault(str(label), []).append(place)
    kept: list[int] = []
    for number, label in enumerate(sorted(groups)):
        drawn = np.random.default_rng([seed, number]).permutation(groups[label])
        # Never by Python's round, which takes halves to the even number.
        kept += drawn[: max(1, int(share * len(drawn) + 0.5))].tolist()
    return rows.take(sorted(kept))


def _joined(parts: list[pa.Table]) -> pa.Table:
    if any(WEIGHT in part.column_names for part in parts):
        parts = [
            part
            if WEIGHT in part.column_names
            else part.append_column(WEIGHT, pa.array([1.0] * len(part), pa.float32()))
            for part in parts
        ]
    return pa.concat_tables(parts)
