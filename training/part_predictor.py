"""What an actor does with a part of a corpus: tokenise it, predict it, and write its Parquet file."""

import json
import os
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError, ModelError, StorageError
from cluster.storage import Store
from retrieval.tables import write_table
from training.predict import Predictor, Probabilities
from training.student_place import StudentPlace

PROBABILITY = "probability:"
"""What the name of a label's column begins with."""
GIVEN_FROM = 0.5
"""Probability from which a label counts as given, where a row may have several."""
_ENVELOPE = ("key", "error", "message")


class PartPredictor:
    """What each actor of the pool runs; threads may share it, and forward passes go one at a time.

    Doing a part twice is harmless: it is put whole under its one name.
    """

    def __init__(self, student: StudentPlace, out: Store, keep_text: bool, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        os.environ |= {"TOKENIZERS_PARALLELISM": str(threads > 1).lower(), "RAYON_NUM_THREADS": str(threads)}
        self._out = out
        self._keep_text = keep_text
        self._reading, self._forward = threading.Lock(), threading.Lock()
        self._predictor: Predictor | ModelError
        try:
            self._predictor = Predictor(student.fetch())
        except ModelError as error:
            # Ray Data would try an actor that cannot start again and again.
            self._predictor = error

    def __call__(self, batch: pa.Table) -> pa.Table:
        key, error, message = (batch[name][0].as_py() for name in _ENVELOPE)
        done: dict[str, Any] = {"key": key, "rows": 0, "tokens": 0, "started": time.time(), "counts": "{}"}
        done |= {"error": error, "message": message}
        try:
            done |= self._predict(key, unpacked(batch)) if key else {}
        except (DataError, ModelError, StorageError) as failure:
            # As data, because Ray Data keeps of an error that is raised only its words.
            done |= {"error": type(failure).__name__, "message": str(failure)}
        return pa.Table.from_pylist([done | {"ended": time.time()}])

    def _predict(self, key: str, rows: pa.Table) -> dict[str, Any]:
        predictor = self._predictor
        if isinstance(predictor, ModelError):
            raise predictor
        # Two threads that set the truncation of one tokenizer at once would make it fail.
        with self._reading:
            texts = predictor.read(rows["text"].to_pylist())
        with self._forward:
            probabilities = predictor.probabilities(texts)
        if not np.isfinite(probabilities).all():
            raise ModelError("the student gives probabilities that are not finite; train it again")
        table = with_predictions(rows, probabilities, predictor.labels, predictor.exclusive)
        write_table(self._out, key, table if self._keep_text else table.drop_columns(["text"]))
        tokens = int(texts.lengths().sum())
        return {"rows": rows.num_rows, "tokens": tokens, "counts": json.dumps(label_counts(table))}


def with_predictions(
    rows: pa.Table, probabilities: Probabilities, labels: tuple[str, ...], exclusive: bool
) -> pa.Table:
    """Return id, label and `probability:LABEL` for each label, then what else the rows hold.

    label is the best one, or, where a row may have several, the list of those from 0.5 on.
    """
    if exclusive:
        best = pa.array([labels[place] for place in probabilities.argmax(axis=1)], pa.string())
    else:
        given = [[labels[place] for place in np.flatnonzero(row)] for row in probabilities >= GIVEN_FROM]
        best = pa.array(given, pa.list_(pa.string()))
    columns = {"id": rows["id"], "label": best}
    for place, label in enumerate(labels):
        columns[f"{PROBABILITY}{label}"] = pa.array(probabilities[:, place], pa.float32())
    return pa.table(columns | {name: rows[name] for name in rows.column_names if name != "id"})


def predicted_labels(schema: pa.Schema) -> tuple[tuple[str, ...], bool]:
    """Return the labels of a part of predictions, and whether a row has exactly one."""
    names = [name.removeprefix(PROBABILITY) for name in schema.names if name.startswith(PROBABILITY)]
    return tuple(names), pa.types.is_string(schema.field("label").type)


def label_counts(table: pa.Table) -> dict[str, int]:
    """Return how often each label occurs in the column `label` of a part."""
    column = table["label"]
    given = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    return {each["values"]: each["counts"] for each in pc.value_counts(given).to_pylist()}


def packed(key: str, rows: pa.Table, error: str = "", message: str = "") -> pa.Table:
    """Return a table of one row that holds the key and the rows of a part, each column as one list."""
    rows = rows.combine_chunks()
    ends = pa.array([0, rows.num_rows], pa.int32())
    columns = {name: pa.ListArray.from_arrays(ends, rows[name].chunk(0)) for name in rows.column_names}
    envelope = {"key": pa.array([key]), "error": pa.array([error]), "message": pa.array([message])}
    return pa.table(envelope | columns)


def unpacked(batch: pa.Table) -> pa.Table:
    """Return the rows of a part that was packed."""
    names = [name for name in batch.column_names if name not in _ENVELOPE]
    return pa.table({name: batch[name].combine_chunks().flatten() for name in names})
