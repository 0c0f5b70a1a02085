"""The columns of a dataset, described as a dataset card's front-matter does."""

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.storage import Store


def read_features(run: Store) -> list[dict[str, Any]]:
    """Return the features of `data/`, in column order; empty when there is no dataset."""
    keys = [key for key in run.list("data") if key.endswith(".parquet")]
    if not keys:
        return []
    schema = pq.read_schema(run.fetch(keys[0]))
    declared = (
        json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    )
    return [{"name": name} | _feature(name, schema.field(name).type, declared) for name in schema.names]


def _feature(name: str, kind: pa.DataType, declared: dict[str, Any]) -> dict[str, Any]:
    names = _class_names(declared.get(name, {}))
    # The row's own value type is told by a key: `dtype` for one value, `list` for several.
    if pa.types.is_list(kind):
        return {"list": _class_label(names) if names else _dtype(name, kind.value_type)}
    return {"dtype": _class_label(names) if names else _dtype(name, kind)}


def _class_names(feature: dict[str, Any]) -> list[str]:
    return list(feature.get("names") or feature.get("feature", {}).get("names") or ())


def _class_label(names: list[str]) -> dict[str, Any]:
    return {"class_label": {"names": {str(place): name for place, name in enumerate(names)}}}


def _dtype(name: str, kind: pa.DataType) -> str:
    if pa.types.is_nested(kind):
        raise DataError(f"data: column {name} is {kind}, which datasets cannot load; write it as JSON text")
    return {"float": "float32", "double": "float64", "bool": "bool"}.get(str(kind), str(kind))
