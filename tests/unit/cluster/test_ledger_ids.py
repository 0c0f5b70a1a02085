"""Sets of packed ids: as exact as sets of strings, at 16 bytes an id."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ids import Halves, SeenIds, pack, unpack
from cluster.settings import digest

HALVES = st.integers(0, 3) | st.integers(0, 2**64 - 1)


def numbers(*ids: tuple[int, int]) -> Halves:
    return np.array(ids, np.uint64).reshape(-1, 2)


@given(st.lists(st.lists(st.tuples(HALVES, HALVES, st.integers(0, 3)), max_size=12), max_size=12))
def test_a_set_of_ids_knows_what_an_earlier_part_held_though_first_halves_are_equal(
    batches: list[list[tuple[int, int, int]]],
) -> None:
    seen, oracle = SeenIds(), dict[tuple[int, int], tuple[int, int]]()
    for number, batch in enumerate(batches):
        rows = sorted(batch, key=lambda row: row[2])
        again = seen.add(numbers(*((a, b) for a, b, _ in rows)), np.array([row[2] for row in rows], np.int64))
        expected = [oracle.setdefault((a, b), (number, part)) < (number, part) for a, b, part in rows]
        assert again.tolist() == expected


def test_ids_come_back_from_their_sixteen_bytes() -> None:
    ids = [digest(n) for n in range(100)]
    packed = pack(pa.array(["f" * 32, *ids, "0" * 32])[1:101])
    assert packed.nbytes == 1600
    assert [unpack(row) for row in packed] == ids


@pytest.mark.parametrize("other", ["a", "", "A" * 32, "g" * 32, "é" * 16, "0" * 31 + "\n", " " * 32])
def test_strings_that_are_no_ids_are_told_apart_too(other: str) -> None:
    ids = [digest(0), other, digest(1), other.lower() + "-", other]
    packed = [unpack(row) for row in pack(pa.array(ids))]
    assert [packed[0], packed[2]] == [ids[0], ids[2]]
    assert packed[1] == packed[4]
    assert len(set(packed)) == 4
    assert other.lower() == other or packed[1] != unpack(pack(pa.array([other.lower()]))[0])


def test_an_id_in_capitals_is_another() -> None:
    small, large = (pack(pa.array([name])) for name in ("ab" * 16, "AB" * 16))
    assert unpack(small) == "ab" * 16 != unpack(large)


def test_many_ids_take_sixteen_bytes_each() -> None:
    seen, random = SeenIds(), np.random.default_rng(0)
    ids = random.integers(0, 2**64 - 1, (200_000, 2), np.uint64)
    for begin in range(0, len(ids), 5000):
        assert not seen.add(ids[begin : begin + 5000], np.zeros(5000, np.int64)).any()
    assert seen.nbytes == ids.nbytes
    assert seen.add(ids[::97], np.zeros(len(ids[::97]), np.int64)).all()
