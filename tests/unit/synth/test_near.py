"""Near-duplicates: which rows are near, how surely they are found, and what a row takes."""

from random import Random
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.filters.minhash import SLOTS, signature
from synth.filters.reading import Reading
from synth.near import BANDS, WIDTH, NearRows, alone, packed, unpacked

TEXTS = st.text(max_size=60)


def signed(text: str, *more: str) -> bytes:
    made = signature([Reading(each) for each in (text, *more)])
    assert made is not None
    return made


def pair(equal: int, random: Random) -> tuple[bytes, bytes]:
    """Two signatures that agree in so many bytes."""
    first = bytearray(random.randbytes(WIDTH))
    second = bytearray(byte ^ random.randrange(1, 256) for byte in first)
    for place in random.sample(range(WIDTH), equal):
        second[place] = first[place]
    return bytes(first), bytes(second)


NEWS = """\
The central bank raised its key interest rate by a quarter of a point on Tuesday to cool rising prices.
Shares of the airline fell sharply after it warned that fuel costs would eat into its profits this year.
The home side won the cup final on penalties after a goalless draw in front of eighty thousand people.
Researchers found traces of water in rocks that the probe brought back from the far side of the moon.
The prime minister will meet opposition leaders next week to talk about a date for early elections.
A new phone with a screen that folds twice goes on sale in Asia before it comes to European shops."""


def test_a_text_with_one_word_exchanged_is_near_and_another_of_its_topic_is_not() -> None:
    near = NearRows(0.7)
    for text in NEWS.splitlines():
        assert near.admit(signed(text))
        assert not near.admit(signed(text.replace(" the ", " this ", 1).upper()))
        words = text.split()
        for place in (0, len(words) // 2, len(words) - 1):
            assert not near.admit(signed(" ".join([*words[:place], "other", *words[place + 1 :]])))
    assert near.admit(signed("The central bank left its key rate alone and said that prices were cooling."))
    assert len(near) == len(NEWS.splitlines()) + 1


def test_scripts_without_spaces_are_compared_sign_by_sign() -> None:
    near = NearRows(0.7)
    assert near.admit(signed("中央银行周二将关键利率上调四分之一个百分点，以抑制不断上涨的物价。"))
    assert not near.admit(signed("中央银行周三将关键利率上调四分之一个百分点，以抑制不断上涨的物价！"))
    assert near.admit(signed("主场球队在八万名观众面前战平后，通过点球大战赢得了杯赛决赛。"))


def test_the_signature_of_a_text_is_the_same_everywhere_and_always() -> None:
    assert SLOTS == WIDTH
    assert signed("Rain ends play at the cup final.").hex() == GOLDEN
    assert signed("rain  ends play, at the CUP final") == bytes.fromhex(GOLDEN)
    assert signed("Rain ends play", "at the cup final") != bytes.fromhex(GOLDEN)
    assert signature([Reading("!?"), Reading("")]) is None


GOLDEN = (
    "58974b536f248746bd34d5a76fba3a1ac7f2ea236e03a924ff401b3a050fab7a"
    "eeecee226c0103f7927fcc43c202c7a3c7aa31e8632e9de561b3d6fc3bc269d4"
)


@settings(deadline=None)
@given(texts=st.lists(TEXTS, min_size=1, max_size=3))
def test_any_text_is_signed_or_has_no_words(texts: list[str]) -> None:
    readings = [Reading(text) for text in texts]
    made = signature(readings)
    assert (made is None) == (not any(reading.words for reading in readings))
    assert made is None or len(made) == WIDTH


def test_the_share_of_pairs_that_are_found_is_what_is_told() -> None:
    random = Random(3)
    for share, least, most in ((0.55, 0.0, 0.0), (0.72, 0.68, 0.85), (0.8, 0.93, 1.0), (0.9, 0.995, 1.0)):
        found = 0
        for _ in range(400):
            near = NearRows(0.7)
            first, second = pair(round(share * WIDTH), random)
            found += near.admit(first) and not near.admit(second)
        assert least <= found / 400 <= most, share


@pytest.mark.parametrize(("threshold", "needed"), [(0.5, 33), (0.7, 45), (0.8, 52), (1.0, 64)])
def test_the_threshold_is_a_share_beyond_chance(threshold: float, needed: int) -> None:
    for equal in (needed - 1, needed):
        first = bytes(range(WIDTH))
        # What differs stands at the end: the first bands are the same.
        second = first[:equal] + bytes(WIDTH - equal)
        near = NearRows(threshold)
        assert near.admit(first)
        assert near.admit(second) == (equal < needed)


def test_only_rows_that_are_kept_make_others_near() -> None:
    first = bytes(range(1, WIDTH + 1))
    second, third = first[:48] + bytes(16), first[:32] + bytes(32)
    near = NearRows(0.7)
    assert [near.admit(each) for each in (first, second, third)] == [True, False, True]
    other_way = NearRows(0.7)
    assert [other_way.admit(each) for each in (second, first, third)] == [True, False, False]
    assert (len(near), len(other_way)) == (2, 1)


@pytest.mark.parametrize("rows", [30_000, 50_000])
def test_a_row_takes_at_most_two_hundred_and_forty_bytes(rows: int) -> None:
    near, random = NearRows(0.7), Random(0)
    assert all(near.admit(random.randbytes(WIDTH)) for _ in range(rows))
    assert (len(near), BANDS) == (rows, 10)
    assert near.nbytes <= 240 * rows


FAMILIES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 9)), max_size=40)


@settings(deadline=None)
@given(rows=FAMILIES, known=st.integers(0, 40))
def test_rows_known_from_the_start_get_the_verdicts_that_they_would_get_one_by_one(
    rows: list[tuple[int, int, int]], known: int
) -> None:
    signatures = []
    for family, changed, number in rows:
        made = bytearray(Random(family).randbytes(WIDTH))
        made[:changed] = Random(number).randbytes(changed)
        signatures.append(bytes(made))
    told = np.frombuffer(b"".join(signatures[:known]), np.uint8).reshape(-1, WIDTH)
    plain, quick = NearRows(0.7), NearRows(0.7)
    expected = [plain.admit(signed) for signed in signatures]
    marks = [*alone(told).tolist(), *[None] * len(signatures)]
    with patch("synth.near._LOT", 3):
        assert [quick.admit(*each) for each in zip(signatures, marks, strict=False)] == expected
    for signed in signatures:
        assert quick.admit(signed) == plain.admit(signed)


SIGNED = st.none() | st.binary(min_size=WIDTH, max_size=WIDTH).filter(any)


@settings(deadline=None)
@given(before=st.lists(SIGNED, max_size=5), column=st.lists(SIGNED | st.binary(max_size=9), max_size=9))
def test_signatures_are_packed_and_unpacked_as_they_were(
    before: list[bytes | None], column: list[bytes | None]
) -> None:
    chunks = pa.chunked_array([before, column], pa.binary()).slice(len(before) // 2)
    told = [*before, *column][len(before) // 2 :]
    made = packed(chunks, len(told))
    assert made.shape == (len(told), WIDTH)
    assert list(unpacked(made)) == [each if each and len(each) == WIDTH else None for each in told]
    assert list(unpacked(packed(None, 3))) == [None] * 3
    assert list(unpacked(np.concatenate([made, made]))) == 2 * list(unpacked(made))
