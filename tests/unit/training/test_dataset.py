from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import LocalStore
from training.dataset import TokenisedTexts, shuffled_batches, sorted_batches, tokenise
from training.tokenising import joined, written


class Characters:
    """A tokenizer whose tokens are the characters."""

    pad_token_id = 0

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> dict[str, list[list[int]]]:
        return {"input_ids": [[ord(letter) for letter in text[:max_length]] for text in texts]}


def test_texts_are_cut_and_padded() -> None:
    texts = tokenise(["abc", "d", "efghij"], Characters(), max_tokens=4)
    assert texts.lengths().tolist() == [3, 1, 4]
    tokens, mask = texts.padded(np.array([1, 0]))
    assert tokens.tolist() == [[ord("d"), 0, 0], [ord("a"), ord("b"), ord("c")]]
    assert mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    tokens, mask = texts.padded(np.array([1, 0]), left=True)
    assert tokens.tolist() == [[0, 0, ord("d")], [ord("a"), ord("b"), ord("c")]]
    assert mask.tolist() == [[0, 0, 1], [1, 1, 1]]


def tables(texts: TokenisedTexts, *cuts: int) -> list[pa.Table]:
    whole = pa.ListArray.from_arrays(pa.array(texts.starts, pa.int32()), pa.array(texts.tokens))
    bounds = zip((0, *cuts), (*cuts, len(texts)), strict=True)
    return [pa.table({"tokens": whole.slice(start, end - start)}) for start, end in bounds]


def test_blocks_are_the_texts_and_copy_none_of_them() -> None:
    random = np.random.default_rng(0)
    flat = tokenise(["x" * int(n) for n in random.integers(0, 9, 50)], Characters(), 8)
    parts = tables(flat, 7, 7, 31)
    # A table of two chunks too, as Ray Data may leave it.
    blocks = joined([parts[0], parts[1], pa.concat_tables(parts[2:])], pad_id=0)
    assert len(blocks) == 50
    assert blocks.lengths().tolist() == flat.lengths().tolist()
    chosen = random.permutation(50)
    for left in (False, True):
        for one, other in zip(blocks.padded(chosen, left), flat.padded(chosen, left), strict=True):
            assert one.tolist() == other.tolist()
    assert not any(block.tokens.flags.owndata for block in blocks.blocks)
    batches = shuffled_batches(blocks, 8, 0, 0), shuffled_batches(flat, 8, 0, 0)
    assert all((one == two).all() for one, two in zip(*batches, strict=True))


def test_texts_of_many_rows_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.tokenising._FILE_ROWS", 4)
    rows = pa.table({"id": [str(n) for n in range(10)], "text": [f"text {n}" for n in range(10)]})
    store = LocalStore(tmp_path)
    keys = written(rows, store, "rows")
    assert [len(pq.read_table(tmp_path / key)) for key in keys] == [4, 4, 2]
    read = pa.concat_tables([pq.read_table(tmp_path / key) for key in keys])
    assert read == rows.select(["text"])
    # A driver that starts over goes on where the last one was lost.
    store.delete(keys[1])
    before = store.entries("rows")
    assert written(rows, store, "rows") == keys
    assert [entry for entry in store.entries("rows") if entry.key != keys[1]] == before


def test_every_row_is_in_one_batch_of_an_epoch() -> None:
    texts = tokenise(["x" * (1 + n % 7) for n in range(103)], Characters(), 8)
    batches = shuffled_batches(texts, 8, seed=1, epoch=2)
    assert len(batches) == 13
    assert sorted(np.concatenate(batches).tolist()) == list(range(103))
    again = shuffled_batches(texts, 8, seed=1, epoch=2)
    assert all((one == two).all() for one, two in zip(batches, again, strict=True))
    other = shuffled_batches(texts, 8, seed=1, epoch=3)
    assert any(len(one) != len(two) or (one != two).any() for one, two in zip(batches, other, strict=True))


def test_only_chosen_rows_are_in_the_batches() -> None:
    texts = tokenise(["x" * (1 + n % 7) for n in range(103)], Characters(), 8)
    chosen = np.arange(1, 103, 3)
    batches = shuffled_batches(texts, 8, seed=1, epoch=0, chosen=chosen)
    assert sorted(np.concatenate(batches).tolist()) == chosen.tolist()


def test_batches_of_an_epoch_hold_texts_of_like_length() -> None:
    random = np.random.default_rng(0)
    texts = tokenise(["x" * int(n) for n in random.integers(1, 100, 512)], Characters(), 128)
    lengths = texts.lengths()
    padded = sum(int(lengths[b].max()) * len(b) for b in shuffled_batches(texts, 16, seed=0, epoch=0))
    assert padded < 1.2 * lengths.sum()


def test_sorted_batches_start_with_the_longest() -> None:
    texts = tokenise(["a", "aaaa", "aa", "aaa"], Characters(), 8)
    batches = sorted_batches(texts, np.array([0, 1, 3]), 2)
    assert [batch.tolist() for batch in batches] == [[1, 3], [0]]
