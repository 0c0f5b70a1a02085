"""The packed table says of every key the number it came with first, and takes few bytes."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.packed import PARTS, PackedTable

KEYS = st.integers(0, 2**64 - 1) | st.integers(0, 7).map(lambda mark: mark << 32)
BATCHES = st.lists(st.lists(KEYS, max_size=16, unique_by=lambda key: (key & 255, key >> 32)), max_size=40)


@settings(deadline=None)
@given(batches=BATCHES, taken_back=st.sets(st.integers(0, 39)))
def test_it_answers_as_a_dict_does(batches: list[list[int]], taken_back: set[int]) -> None:
    table, known = PackedTable(), dict[tuple[int, int], int]()
    for number, batch in enumerate(batches):
        names = [(key & 255, key >> 32) for key in batch]
        assert table.put(batch, number) == [known[name] for name in names if name in known]
        if number in taken_back:
            table.take_back(batch, number)
        else:
            known = dict.fromkeys(names, number) | known
        assert len(table) == len(known)
        assert [table.find(key) for key in batch] == [known.get(name) for name in names]


def test_keys_that_crowd_at_one_place_are_told_apart_while_the_table_grows() -> None:
    crowd = [mark << 32 for mark in (*range(300), *range(2**32 - 300, 2**32))]
    table = PackedTable()
    for number, key in enumerate(crowd):
        assert table.put((key,), number) == []
    assert [table.find(key) for key in crowd] == list(range(600))
    assert table.find(400 << 32) is None


@settings(deadline=None)
@given(keys=st.lists(KEYS, unique_by=lambda key: (key & 255, key >> 32)), first=st.integers(0, 200))
def test_many_fresh_keys_are_put_in_as_one_by_one(keys: list[int], first: int) -> None:
    table = PackedTable()
    for number, key in enumerate(keys[:first]):
        table.put((key,), number)
    rest = np.array(keys[first:], np.uint64)
    table.put_fresh(rest, np.arange(len(rest), dtype=np.uint64) + np.uint64(first))
    assert [table.find(key) for key in keys] == list(range(len(keys)))
    assert table.put(keys[:16], 999) == list(range(len(keys)))[:16]
    assert len(table) == len(keys)


@pytest.mark.parametrize("rows", [10_000, 60_000, 85_000])
def test_a_key_takes_at_most_sixteen_bytes(rows: int) -> None:
    table, random = PackedTable(), Random(1)
    empty = table.nbytes
    for number in range(rows):
        table.put([random.getrandbits(64) for _ in range(4)], number)
    assert table.nbytes <= 16 * len(table) + empty * (len(table) < 40 * PARTS)
