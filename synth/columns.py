"""The columns of a dataset: text fields, label and id, then provenance, described as Hugging Face does."""

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_LEFT_OUT = ("item_id", "position", "piece", "status", "reason", "text_hash", "labels", "row_id", "signature")


def dataset_table(rows: pa.Table, fields: Sequence[str], names: Sequence[str], single: bool) -> pa.Table:
    """Return ledger rows as rows of the dataset; maps become JSON.

    names are the task's labels; with single the label of a row is its number, otherwise a list of them.
    """
    columns = {name: rows[name] for name in fields}
    columns |= {"label": _label(rows["labels"].combine_chunks(), names, single), "id": rows["row_id"]}
    for name in rows.column_names:
        if name not in columns and name not in _LEFT_OUT:
            columns[name] = _plain(rows[name])
    return described(pa.table(columns), names)


def described(rows: pa.Table, names: Sequence[str]) -> pa.Table:
    """Return rows with columns described as Hugging Face does; names are those of the label's numbers."""
    return rows.replace_schema_metadata({"huggingface": json.dumps(_features(rows.schema, names))})


def _label(labels: pa.ListArray, names: Sequence[str], single: bool) -> pa.Array:
    known = pa.array(list(names), pa.string())
    numbers = pc.index_in(labels.flatten(), value_set=known).cast(pa.int64())
    return numbers if single else pa.ListArray.from_arrays(labels.offsets, numbers)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if not pa.types.is_map(column.type):
        return column
    maps = column.combine_chunks()
    keys, values, ends = maps.keys.to_pylist(), maps.items.to_pylist(), maps.offsets.to_pylist()
    texts = [
        json.dumps(dict(zip(keys[start:stop], values[start:stop], strict=True))) if stop > start else "{}"
        for start, stop in pairwise(ends)
    ]
    return pc.if_else(maps.is_valid(), pa.array(texts, pa.string()), None)


def _features(schema: pa.Schema, names: Sequence[str]) -> dict[str, Any]:
    """Describe the columns as Hugging Face datasets does, so that labels show by name."""
    label: dict[str, Any] = {"names": list(names), "_type": "ClassLabel"}
    features: dict[str, Any] = {}
    for column in schema:
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        feature = label if column.name == "label" else {"dtype": _dtype(inner), "_type": "Value"}
        features[column.name] = {"feature": feature, "_type": "List"} if inner is not column.type else feature
    return {"info": {"features": features}}


def _dtype(kind: pa.DataType) -> str:
    return "float32" if pa.types.is_float32(kind) else str(kind)
