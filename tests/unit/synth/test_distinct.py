import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.metrics.distinct import Distinct, distinct
from synth.metrics.metric import NotComputed
from synth.metrics.ngrams import words_of
from tests.unit.synth.measuring import measure, some

texts_of_words = st.lists(st.lists(st.sampled_from("abcd"), max_size=12), min_size=1, max_size=8)


def counted(texts: list[list[str]], highest: int) -> dict[int, float]:
    """Distinct-n counted the long way."""
    grams = {
        order: [tuple(text[at : at + order]) for text in texts for at in range(len(text) - order + 1)]
        for order in range(1, highest + 1)
    }
    return {order: len(set(each)) / len(each) for order, each in grams.items() if each}


@given(texts_of_words)
@settings(max_examples=300, deadline=None)
def test_shares_are_those_counted_the_long_way(texts: list[list[str]]) -> None:
    assert distinct(words_of(pa.array(texts, pa.list_(pa.string()))), 7) == counted(texts, 7)


def test_n_grams_do_not_reach_over_the_end_of_a_text() -> None:
    words = words_of(pa.array([["a", "b"], ["a"], ["b"], ["a", "b"]]))
    assert distinct(words, 3) == {1: 2 / 6, 2: 1 / 2}


def test_the_metric_counts_tokens_n_grams_and_both_vocabularies() -> None:
    # Cat and cat are two tokens; The is as much a stop word as the.
    found = measure(Distinct(), some(["The cat the cat.", "A Cat and the cat sat ."]))
    assert (found["n"], found["tokens"]) == (2, 12)
    assert found["vocabulary"] == {
        "types": len({"The", "cat", "the", ".", "A", "Cat", "and", "sat"}),
        "sum_over_texts": len({"cat", "."}) + len({"Cat", "cat", "sat", "."}),
        "mean_of_texts": 3.0,
    }
    assert found["distinct"]["1"] == pytest.approx(8 / 12)
    assert found["distinct"]["2"] == pytest.approx(9 / 10)
    assert json.loads(json.dumps(found)) == found


def test_rows_without_words_count_in_the_mean_of_texts() -> None:
    found = measure(Distinct(), some(["", "cat dog", "the"]))
    assert found["n"] == 3
    assert found["vocabulary"] == {"types": 3, "sum_over_texts": 2, "mean_of_texts": pytest.approx(2 / 3)}


def test_orders_that_no_text_reaches_have_a_reason() -> None:
    found = measure(Distinct(orders=(1, 3)), some(["one two", "two"]))["distinct"]
    assert found == {"1": pytest.approx(2 / 3), "3": {"not_computed": "no text has 3 tokens"}}


def test_gold_is_measured_as_a_whole_and_on_equal_numbers() -> None:
    rows, gold = some(["a cat", "a dog", "a cat", "two dogs"]), some(["red", "blue red"])

    def bare(texts: Any) -> Any:
        found = measure(Distinct(), texts)
        return {name: found[name] for name in ("tokens", "distinct", "vocabulary")}

    found = measure(Distinct(), rows, gold)
    assert (found["gold"], found["gold_n"]) == (bare(gold), 2)
    assert found["gold_same_n"] == {"n": 2, "rows": bare(rows.first(2)), "gold": bare(gold)}


def test_what_cannot_be_measured_has_a_reason() -> None:
    with pytest.raises(NotComputed, match="1 row"):
        measure(Distinct(), some([]))
    with pytest.raises(NotComputed, match="token"):
        measure(Distinct(), some(["", " "]))
    found = measure(Distinct(), some(["word"]))
    assert found["distinct"]["1"] == 1
    assert "task.test" in found["gold"]["not_computed"]
    assert "token" in measure(Distinct(), some(["word"]), some([" "]))["gold"]["not_computed"]


def test_a_very_long_text_and_emoji_are_measured() -> None:
    found = measure(Distinct(orders=(1, 5)), some(["one two three four five " * 20_000, "😀🎉 😀"]))
    assert found["distinct"]["5"] == 5 / (100_000 - 4)
    assert found["tokens"] > 100_000
