"""From ledger to dataset: the first rows in plan order that fill every label's target, without duplicates."""

import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.ledger import read_ledger
from cluster.settings import digest
from cluster.storage import Store
from synth.quota import Candidate, Quota

SHARD_ROWS = 100_000
_ORDER = [("round", "ascending"), ("position", "ascending"), ("piece", "ascending")]
_JUDGED = ("row_id", "status", "round", "position", "piece", "labels", "text_hash")
_LEFT_OUT = ("item_id", "position", "piece", "status", "reason", "text_hash", "labels", "row_id")


@dataclass(frozen=True, slots=True)
class Dataset:
    """What curation made: rows by label, surplus by reason, and a digest of the rows in order."""

    rows: int
    per_label: Mapping[str, int]
    surplus: Mapping[str, int]
    mean_words: float
    digest: str


def curate(store: Store, fields: Sequence[str], targets: Mapping[str, int]) -> Dataset:
    """Write `data/train-*.parquet` from the ledger; the same ledger always gives the same files."""
    kept, quota, surplus = _choose(store, targets)
    table = _collect(store, kept, fields)
    columns = _dataset_table(table, fields, list(targets))
    shards = _write(store, columns)
    for key in set(store.list("data")) - set(shards):
        store.delete(key)
    texts = columns["text"].to_pylist()
    return Dataset(
        rows=len(texts),
        per_label=dict(quota.kept),
        surplus=dict(sorted(surplus.items())),
        mean_words=round(sum(len(text.split()) for text in texts) / max(1, len(texts)), 2),
        digest=digest(
            list(zip(texts, table["labels"].to_pylist(), table["row_id"].to_pylist(), strict=True))
        ),
    )


def _choose(store: Store, targets: Mapping[str, int]) -> tuple[pa.Array, Quota, Counter[str]]:
    tables = [t.filter(pc.field("status") == "accepted") for t in read_ledger(store, _JUDGED)]
    quota, surplus, kept = Quota(targets), Counter[str](), []
    if tables:
        rows = pa.concat_tables(tables).sort_by(_ORDER)
        columns = (rows[name].to_pylist() for name in ("row_id", "labels", "text_hash"))
        for row_id, labels, text_hash in zip(*columns, strict=True):
            verdict = quota.judge(Candidate(tuple(labels), text_hash))
            if verdict == "kept":
                kept.append(row_id)
            else:
                surplus[verdict] += 1
    return pa.array(kept, pa.string()), quota, surplus


def _collect(store: Store, kept: pa.Array, fields: Sequence[str]) -> pa.Table:
    tables = [t.filter(pc.is_in(t["row_id"], value_set=kept)) for t in read_ledger(store)]
    tables = [table for table in tables if table.num_rows]
    if not tables:
        empty = pa.array([], pa.string())
        labels = pa.array([], pa.list_(pa.string()))
        return pa.table(dict.fromkeys(fields, empty) | {"labels": labels, "row_id": empty})
    return pa.concat_tables(tables).sort_by(_ORDER)


def _dataset_table(table: pa.Table, fields: Sequence[str], names: list[str]) -> pa.Table:
    """Return the dataset's columns: the text fields, label, id, then provenance; maps become JSON."""
    rows = table["labels"].to_pylist()
    single = all(len(labels) == 1 for labels in rows)
    numbers = [[names.index(label) for label in labels] for labels in rows]
    label = (
        pa.array([ids[0] for ids in numbers], pa.int64())
        if single
        else pa.array(numbers, pa.list_(pa.int64()))
    )
    columns = {name: table[name] for name in fields} | {"label": label, "id": table["row_id"]}
    for name in table.column_names:
        if name not in columns and name not in _LEFT_OUT:
            columns[name] = _plain(table[name])
    made = pa.table(columns)
    return made.replace_schema_metadata({"huggingface": json.dumps(_features(made.schema, names))})


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_map(column.type):
        return column
    values = [None if pairs is None else json.dumps(dict(pairs)) for pairs in column.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string())])


def _features(schema: pa.Schema, names: list[str]) -> dict[str, Any]:
    """Describe the columns as Hugging Face datasets does, so that labels show by name."""
    label: dict[str, Any] = {"names": names, "_type": "ClassLabel"}
    features: dict[str, Any] = {}
    for column in schema:
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        feature = label if column.name == "label" else {"dtype": _dtype(inner), "_type": "Value"}
        features[column.name] = {"feature": feature, "_type": "List"} if inner is not column.type else feature
    return {"info": {"features": features}}


def _dtype(kind: pa.DataType) -> str:
    return "float32" if pa.types.is_float32(kind) else str(kind)


def _write(store: Store, table: pa.Table) -> list[str]:
    count = max(1, -(-table.num_rows // SHARD_ROWS))
    keys = []
    for number in range(count):
        sink = io.BytesIO()
        pq.write_table(table.slice(number * SHARD_ROWS, SHARD_ROWS), sink, compression="zstd")
        keys.append(f"data/train-{number:05d}-of-{count:05d}.parquet")
        store.write(keys[-1], sink.getvalue())
    return keys
