"""Copies among rows, gold rows and seeds, against comparing every pair."""

import gzip
import json
import random
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.metrics.copies import Copies, compression, form
from synth.metrics.metric import NotComputed, Texts
from tests.unit.synth.measuring import measure, some

WORDS = st.lists(
    st.sampled_from(["a", "A", " a", "b", "B\n", "", "ﬁ", "fi", "c c", "C  c"]), min_size=1, max_size=12
)
LABELLED = st.lists(st.tuples(st.sampled_from(["x", "X ", "y", "z"]), st.sampled_from("ab")), min_size=1)


def shares(result: dict[str, Any]) -> list[int]:
    return [result[part]["rows"] for part in ("repeated", "contradicting")]


def test_rows_that_say_the_same_are_found_but_for_case_spacing_and_form() -> None:
    rows = some(["\uff28ello  world", "hello World\n", "HELLO WORLD", "other", "straße", "STRASSE"])
    result = measure(Copies(), rows)
    assert shares(result) == [3, 0]
    assert result["repeated"]["share"] == 0.5
    assert {"000004", "000005"} in [set(pair) for pair in result["repeated"]["ids"]]


def test_rows_of_one_text_with_unlike_labels_contradict_whichever_comes_first() -> None:
    result = measure(Copies(), some(["t", "T", "t ", "u", "u", "v"], [*"abbaaa"]))
    assert shares(result) == [3, 3]
    ((one, other),) = result["contradicting"]["ids"]
    assert {one, other} < {"000000", "000001", "000002"}
    assert "000000" in (one, other)


def test_labels_in_another_order_are_no_contradiction() -> None:
    rows = Texts(("1", "2"), ("t", "t"), (("a", "b"), ("b", "a")))
    assert shares(measure(Copies(), rows)) == [1, 0]


def test_rows_that_are_gold_rows_or_seeds_are_told_with_both_ids() -> None:
    result = measure(Copies(), some(["x", "y", "Z"]), gold=some(["q", "z"]), seeds=some(["Y", "y"]))
    assert result["gold"]["ids"] == [["000002", "000001"]]
    assert (result["gold"]["rows"], result["gold"]["of"]) == (1, 2)
    assert result["seeds"]["rows"] == 1
    assert result["seeds"]["share"] == pytest.approx(1 / 3)


def test_what_is_not_there_is_said() -> None:
    result = measure(Copies(), some(["x"]))
    assert "task.test" in result["gold"]["not_computed"]
    assert "task.seeds" in result["seeds"]["not_computed"]
    assert measure(Copies(), some([""]))["compression"] == {"not_computed": "all texts are empty"}
    with pytest.raises(NotComputed):
        measure(Copies(), some([]))


@settings(deadline=None)
@given(WORDS, WORDS)
def test_counts_are_those_of_comparing_every_pair(texts: list[str], gold: list[str]) -> None:
    rows = some(texts)
    result = measure(Copies(), rows, some(gold))
    forms = [form(text) for text in rows.texts]
    repeated = sum(any(forms[one] == forms[two] for one in range(two)) for two in range(len(forms)))
    assert result["repeated"]["rows"] == repeated
    assert result["gold"]["rows"] == sum(any(each == form(other) for other in gold) for each in forms)
    json.dumps(result, allow_nan=False)


@settings(deadline=None)
@given(LABELLED)
def test_contradicting_rows_are_those_with_an_equal_text_and_another_label(
    given: list[tuple[str, str]],
) -> None:
    texts, labels = zip(*given, strict=True)
    odd = set[int]()
    for one, two in combinations(range(len(texts)), 2):
        if form(texts[one]) == form(texts[two]) and labels[one] != labels[two]:
            odd |= {one, two}
    result = measure(Copies(), some([*texts], [*labels]))
    assert result["contradicting"]["rows"] == len(odd)


@settings(deadline=None)
@given(LABELLED, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(given: list[tuple[str, str]], rng: random.Random) -> None:
    mixed = rng.sample(given, len(given))
    results = [measure(Copies(), some(*map(list, zip(*rows, strict=True)))) for rows in (given, mixed)]
    assert shares(results[0]) == shares(results[1])


def test_at_most_so_many_pairs_are_shown() -> None:
    result = measure(Copies(shown=2), some(["same"] * 9))
    assert len(result["repeated"]["ids"]) == 2
    assert result["repeated"]["rows"] == 8


def test_compression_is_that_of_gzip_and_high_for_repetition() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices([f"word{number}" for number in range(500)], k=20)) for _ in range(200)]
    joined = "".join(f"{text}\n" for text in texts).encode()
    # gzip has a longer header and its own checksum.
    assert compression(texts) == pytest.approx(len(joined) / len(gzip.compress(joined, 6)), rel=0.01)
    repeated = compression([texts[0]] * 200)
    assert isinstance(repeated, float)
    assert repeated > 40
