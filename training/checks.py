"""What rows of a student must be: columns, labels, weights and texts, checked before anything is trained."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError

Targets = npt.NDArray[np.int64] | npt.NDArray[np.float32]
_CHUNK = 4096
_NUMBER = r"^\s*[-+]?[0-9.,]*[0-9](?:[eE][-+]?[0-9]+)?\s*$"


def checked_rows(rows: pa.Table, labels: Sequence[str], name: str) -> pa.Table:
    """Return the columns id, text, label and perhaps weight; DataError names what is wrong and in which row.

    A label is a string, or a list of strings, perhaps empty, of rows that may have several. `weight` says
    how much a row counts in the loss, by default all alike. Without an `id` column the position of a row
    becomes its id. `name` is the student's, for messages. A label with a single row is no error: a student
    can learn from it, as long as nobody holds that row out.
    """
    place = f"rows of student {name}"
    if rows.num_rows == 0:
        raise DataError(f"{place}: there are none; a student needs rows of at least two labels")
    text, label = _column(rows, "text", place), _column(rows, "label", place)
    positions = pa.array(map(str, range(rows.num_rows)), pa.string())
    ids = rows["id"] if "id" in rows.column_names else positions
    kind = pa.list_(pa.string()) if _is_list(label.type) else pa.string()
    columns = {"id": ids.cast(pa.string()), "text": text.cast(pa.string()), "label": label.cast(kind)}
    if "weight" in rows.column_names:
        columns["weight"] = _weights(rows["weight"], columns["id"], place)
    table = pa.table(columns).combine_chunks()
    _check_labels(table, labels, place)
    _check_texts(table, place)
    return table


def several_labels(rows: pa.Table) -> bool:
    """Say whether rows may have several labels each."""
    return _is_list(rows.schema.field("label").type)


def label_ids(rows: pa.Table, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the position of every row's label in the task's order, (rows,)."""
    found = pc.index_in(rows["label"], value_set=pa.array(labels, pa.string()))
    return np.asarray(found.to_numpy(), dtype=np.int64)


def targets_of(rows: pa.Table, labels: Sequence[str]) -> Targets:
    """Return label ids, (rows,) int64; for rows with several, 1 where one holds, (rows, labels) float32."""
    if not several_labels(rows):
        return label_ids(rows, labels)
    holds = np.zeros((rows.num_rows, len(labels)), dtype=np.float32)
    column = rows["label"].combine_chunks()
    found = pc.index_in(pc.list_flatten(column), value_set=pa.array(labels, pa.string()))
    holds[pc.list_parent_indices(column).to_numpy(), found.to_numpy(zero_copy_only=False)] = 1
    return holds


def weights_of(rows: pa.Table) -> npt.NDArray[np.float32] | None:
    """Return the weight of every row, (rows,) float32; None when all are alike."""
    return rows["weight"].to_numpy() if "weight" in rows.column_names else None


def label_counts(rows: pa.Table, labels: Sequence[str]) -> dict[str, int]:
    """Return how many rows each label has; who holds rows out leaves those of a label with a single one."""
    column = rows["label"]
    flat = pc.list_flatten(column) if several_labels(rows) else column
    counted = {entry["values"]: entry["counts"] for entry in pc.value_counts(flat).to_pylist()}
    return {label: int(counted.get(label, 0)) for label in labels}


def rows_digest(rows: pa.Table) -> str:
    """Hash checked rows, in order, to 32 hexadecimal characters, however they are chunked."""
    content = hashlib.blake2b(digest_size=16)
    for batch in rows.to_batches(max_chunksize=_CHUNK):
        for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            content.update(json.dumps(values, ensure_ascii=False).encode())
    return content.hexdigest()


def _column(rows: pa.Table, name: str, place: str) -> Any:
    """Return a column of strings, or labels in lists of strings."""
    if name in rows.column_names:
        kind = _value_type(rows[name].type)
        if name == "label" and _is_list(kind):
            kind = _value_type(kind.value_type)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return rows[name]
    found = ", ".join(f"{field.name}: {field.type}" for field in rows.schema) or "no columns"
    wanted = "strings" if name == "text" else "strings, or of lists of strings"
    raise DataError(
        f"{place}: need a column {name!r} of {wanted}, found {found}; name the right one, or cast it"
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _value_type(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _weights(column: pa.ChunkedArray, ids: Any, place: str) -> pa.ChunkedArray:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise DataError(f"{place}: column 'weight' holds {kind}; give numbers, or leave the column out")
    weights = column.cast(pa.float64()).to_numpy()
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        row, weight = ids[int(bad[0])], column[int(bad[0])]
        raise DataError(f"{place}: the weight of row {row} is {weight}; give a number that is not negative")
    if not weights.any():
        raise DataError(f"{place}: all weights are 0; a student needs rows that count")
    return pa.chunked_array([pa.array(weights, pa.float32())])


def _check_labels(table: pa.Table, labels: Sequence[str], place: str) -> None:
    column = table["label"].combine_chunks()
    flat, rows = column, None
    if several_labels(table):
        if column.null_count:
            row = table["id"][pc.indices_nonzero(column.is_null())[0].as_py()]
            raise DataError(f"{place}: row {row} has null for its labels; give a list, empty if none holds")
        flat, rows = pc.list_flatten(column), pc.list_parent_indices(column)
    unknown = pc.indices_nonzero(pc.invert(pc.is_in(flat, value_set=pa.array(labels, pa.string()))))
    if len(unknown):
        at = unknown[0].as_py()
        row, label = table["id"][at if rows is None else rows[at].as_py()], flat[at].as_py()
        raise DataError(f"{place}: row {row}: label {label!r} is unknown; the task has {', '.join(labels)}")
    targets = targets_of(table, labels)
    if bool((targets == targets[0]).all()):
        first = column[0].as_py()
        raise DataError(
            f"{place}: all have the label {first!r}; a student needs at least two labels"
            if rows is None
            else f"{place}: all have the labels {first}; a student needs rows that differ in them"
        )


def _check_texts(table: pa.Table, place: str) -> None:
    bare = pc.utf8_trim_whitespace(table["text"])
    empty = pc.indices_nonzero(pc.fill_null(pc.equal(pc.utf8_length(bare), 0), True))
    if len(empty):
        raise DataError(f"{place}: the text of row {table['id'][empty[0].as_py()]} is empty; remove the row")
    if pc.all(pc.match_substring_regex(table["text"], _NUMBER)).as_py():
        shown = table["text"][0].as_py()
        raise DataError(
            f"{place}: column 'text' holds nothing but numbers, such as {shown!r}; name that of the texts"
        )
