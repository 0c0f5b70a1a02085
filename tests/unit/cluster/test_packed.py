"""The packed table says of every key the number it came with first, and takes few bytes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.packed import PackedTable

BATCHES = st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=30), max_size=30)


@given(batches=BATCHES)
def test_it_answers_as_a_dict_does(batches: list[list[int]]) -> None:
    table, known, number = PackedTable(4), dict[int, int](), 0
    for batch in batches:
        numbers = range(number, number + len(batch))
        number += len(batch)
        found = table.put(np.array(batch, np.uint64), np.array(numbers, np.uint32))
        assert found.tolist() == [known.setdefault(key, own) for key, own in zip(batch, numbers, strict=True)]
        assert len(table) == len(known)


def test_keys_that_crowd_at_one_place_are_told_apart() -> None:
    keys = np.arange(500, dtype=np.uint64)
    table = PackedTable(8)
    table.put(keys, keys.astype(np.uint32))
    again = table.put(keys[::-1], np.full(500, 9999, np.uint32))
    assert again.tolist() == list(range(499, -1, -1))


@pytest.mark.parametrize("rows", [10_000, 100_000])
def test_a_key_takes_at_most_twenty_two_bytes(rows: int) -> None:
    table, random = PackedTable(), np.random.default_rng(1)
    for start in range(0, rows, 500):
        keys = random.integers(0, 2**64, 500, np.uint64)
        table.put(keys, np.arange(start, start + 500, dtype=np.uint32))
    assert table.nbytes <= 22 * len(table)
