from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import DataError
from training.dataset import (
    checked_rows,
    label_ids,
    rows_digest,
    shuffled_batches,
    sorted_batches,
    tokenise,
)

LABELS = ("spam", "ham")


class Characters:
    """A tokenizer whose tokens are the characters."""

    pad_token_id = 0

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text[:max_length]] for text in texts]}


def table(**columns: list[Any]) -> pa.Table:
    return pa.table({"text": ["a", "b", "c"], "label": ["ham", "spam", "ham"]} | columns)


def test_labels_are_numbered_in_the_order_of_the_task() -> None:
    rows = checked_rows(table(), LABELS, "s")
    assert label_ids(rows, LABELS).tolist() == [1, 0, 1]
    assert label_ids(rows, ("ham", "spam")).tolist() == [0, 1, 0]


def test_ids_are_kept_or_are_positions() -> None:
    assert checked_rows(table(id=["x", "y", "z"]), LABELS, "s")["id"].to_pylist() == ["x", "y", "z"]
    assert checked_rows(table(), LABELS, "s")["id"].to_pylist() == ["0", "1", "2"]


def test_dictionary_columns_are_strings_too() -> None:
    encoded = pa.table({"text": ["a", "b"], "label": pa.array(["ham", "spam"]).dictionary_encode()})
    assert checked_rows(encoded, LABELS, "s")["label"].to_pylist() == ["ham", "spam"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(label=["ham", "egg", "ham"]), "label 'egg' is unknown; the task has spam, ham"),
        (table(label=["ham", "ham", "ham"]), "all have the label 'ham'"),
        (table(text=[1, 2, 3]), "column 'text' of strings, found text: int64"),
        (table(text=["a", "", "c"]), "the text of row 1 is empty"),
        (table(text=["a", None, "c"]), "the text of row 1 is empty"),
        (table().slice(0, 0), "there are none"),
    ],
)
def test_bad_rows_are_named(rows: pa.Table, message: str) -> None:
    with pytest.raises(DataError, match=message):
        checked_rows(rows, LABELS, "s")


def test_digest_sees_content_and_order_but_not_chunks() -> None:
    rows = checked_rows(table(), LABELS, "s")
    chunked = pa.concat_tables([rows.slice(0, 1), rows.slice(1)])
    assert rows_digest(rows) == rows_digest(chunked)
    assert rows_digest(rows) != rows_digest(rows.take([1, 0, 2]))
    assert rows_digest(rows) != rows_digest(checked_rows(table(text=["a", "b", "d"]), LABELS, "s"))


def test_texts_are_cut_and_padded() -> None:
    texts = tokenise(["abc", "d", "efghij"], Characters(), max_tokens=4)
    assert texts.lengths().tolist() == [3, 1, 4]
    tokens, mask = texts.padded(np.array([1, 0]))
    assert tokens.tolist() == [[ord("d"), 0, 0], [ord("a"), ord("b"), ord("c")]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]


def test_every_row_is_in_one_batch_of_an_epoch() -> None:
    texts = tokenise(["x" * (1 + n % 7) for n in range(103)], Characters(), 8)
    batches = shuffled_batches(texts, 8, seed=1, epoch=2)
    assert len(batches) == 13
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    again = shuffled_batches(texts, 8, seed=1, epoch=2)
    assert all((one == two).all() for one, two in zip(batches, again, strict=True))
    other = shuffled_batches(texts, 8, seed=1, epoch=3)
    assert any(len(one) != len(two) or (one != two).any() for one, two in zip(batches, other, strict=True))


def test_batches_of_an_epoch_hold_texts_of_like_length() -> None:
    random = np.random.default_rng(0)
    texts = tokenise(["x" * int(n) for n in random.integers(1, 100, 512)], Characters(), 128)
    lengths = texts.lengths()
    padded = sum(int(lengths[b].max()) * len(b) for b in shuffled_batches(texts, 16, seed=0, epoch=0))
    assert padded < 1.35 * lengths.sum()


def test_sorted_batches_start_with_the_longest() -> None:
    texts = tokenise(["a", "aaaa", "aa", "aaa"], Characters(), 8)
    batches = sorted_batches(texts, np.array([0, 1, 3]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0]]
