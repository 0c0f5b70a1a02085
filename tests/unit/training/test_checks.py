from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import DataError
from training.checks import checked_rows, label_counts, rows_digest, several_labels, targets_of, weights_of

LABELS = ("spam", "ham")
LISTS = pa.list_(pa.string())


def table(**columns: list[Any]) -> pa.Table:
    return pa.table({"text": ["a", "b", "c"], "label": ["ham", "spam", "ham"]} | columns)


def lists(*rows: list[str] | None, kind: pa.DataType = LISTS) -> pa.Table:
    return pa.table({"text": [chr(97 + n) for n in range(len(rows))], "label": pa.array(rows, kind)})


def test_labels_are_numbered_in_the_order_of_the_task() -> None:
    rows = checked_rows(table(), LABELS, "s")
    assert targets_of(rows, LABELS).tolist() == [1, 0, 1]
    assert targets_of(rows, ("ham", "spam")).tolist() == [0, 1, 0]


def test_ids_are_kept_or_are_positions() -> None:
    assert checked_rows(table(id=["x", "y", "z"]), LABELS, "s")["id"].to_pylist() == ["x", "y", "z"]
    assert checked_rows(table(), LABELS, "s")["id"].to_pylist() == ["0", "1", "2"]


def test_dictionary_and_large_columns_are_strings_too() -> None:
    label = pa.array(["ham", "spam"]).dictionary_encode()
    encoded = pa.table({"text": pa.array(["a", "b"], pa.large_string()), "label": label})
    rows = checked_rows(encoded, LABELS, "s")
    assert rows["label"].to_pylist() == ["ham", "spam"]
    assert rows["text"].type == pa.string()


@pytest.mark.parametrize("kind", [LISTS, pa.large_list(pa.large_string())])
def test_lists_of_labels_become_a_matrix(kind: pa.DataType) -> None:
    rows = checked_rows(lists(["ham"], [], ["ham", "spam"], kind=kind), LABELS, "s")
    assert several_labels(rows)
    targets = targets_of(rows, LABELS)
    assert targets.dtype == np.float32
    assert targets.tolist() == [[0, 1], [0, 0], [1, 1]]
    assert label_counts(rows, LABELS) == {"spam": 1, "ham": 2}
    assert targets_of(rows.slice(1), LABELS).tolist() == [[0, 0], [1, 1]]


def test_a_label_with_a_single_row_is_counted_and_taken() -> None:
    rows = checked_rows(table(), (*LABELS, "eggs"), "s")
    assert label_counts(rows, (*LABELS, "eggs")) == {"spam": 1, "ham": 2, "eggs": 0}


def test_weights_are_kept() -> None:
    weights = weights_of(checked_rows(table(weight=[0, 2, 1]), LABELS, "s"))
    assert weights is not None
    assert (weights.dtype, weights.tolist()) == (np.float32, [0.0, 2.0, 1.0])
    assert weights_of(checked_rows(table(), LABELS, "s")) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(label=["ham", "egg", "ham"]), "row 1: label 'egg' is unknown; the task has spam, ham"),
        (table(label=["ham", "ham", "ham"]), "all have the label 'ham'"),
        (table(label=[0, 1, 0]), "column 'label' of strings, or of lists of strings, found .*label: int64"),
        (table(text=[1, 2, 3]), "column 'text' of strings, found text: int64"),
        (table(text=["1", "2.5", "-3e4"]), "nothing but numbers, such as '1'"),
        (table(text=["a", "", "c"]), "the text of row 1 is empty"),
        (table(text=["a", " \n", "c"], id=["x", "y", "z"]), "the text of row y is empty"),
        (table(text=["a", None, "c"]), "the text of row 1 is empty"),
        (table().slice(0, 0), "there are none"),
        (lists(["ham"], ["egg"]), "row 1: label 'egg' is unknown"),
        (lists(["ham"], None), "row 1 has null for its labels"),
        (lists(["ham", "spam"], ["spam", "ham"]), "all have the labels .*; a student needs rows that differ"),
        (table(weight=["1", "2", "3"]), "column 'weight' holds string; give numbers"),
        (table(weight=[1.0, -0.5, 1.0]), "the weight of row 1 is -0.5"),
        (table(weight=[1.0, 1.0, float("nan")]), "the weight of row 2 is nan"),
        (table(weight=[1, None, 1]), "the weight of row 1 is None"),
        (table(weight=[0, 0, 0]), "all weights are 0"),
    ],
)
def test_bad_rows_are_named(rows: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match=f"rows of student s: .*{message}"):
        checked_rows(rows, LABELS, "s")


def test_numbers_among_texts_are_texts() -> None:
    assert checked_rows(table(text=["1", "2", "c"]), LABELS, "s").num_rows == 3


def test_digest_sees_content_and_order_but_not_chunks() -> None:
    rows = checked_rows(table(), LABELS, "s")
    chunked = pa.concat_tables([rows.slice(0, 1), rows.slice(1)])
    assert rows_digest(rows) == rows_digest(chunked)
    assert rows_digest(rows) != rows_digest(rows.take([1, 0, 2]))
    assert rows_digest(rows) != rows_digest(checked_rows(table(text=["a", "b", "d"]), LABELS, "s"))
    assert rows_digest(rows) != rows_digest(checked_rows(table(weight=[1, 1, 2]), LABELS, "s"))
