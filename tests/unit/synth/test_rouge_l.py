import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.metrics import subsequence
from synth.metrics.metric import NotComputed, drawn
from synth.metrics.rouge_l import NearestRougeL, numbered
from synth.metrics.subsequence import nearest
from tests.unit.synth.measuring import measure, some

ROWS = [
    "The match ended two to one .",
    "the MATCH ended one to two .",
    "Shares fell in London .",
    "Nobody knows",
]
some_texts = st.lists(st.lists(st.integers(0, 4), max_size=25), min_size=1, max_size=7)


def common(one: list[int], other: list[int]) -> int:
    """Length of the longest common subsequence, by the table."""
    above = [0] * (len(other) + 1)
    for token in one:
        row = [0]
        for place, each in enumerate(other):
            row.append(above[place] + 1 if token == each else max(above[place + 1], row[place]))
        above = row
    return above[-1]


def searched(texts: list[list[int]], others: list[list[int]] | None) -> list[tuple[float, int]]:
    """The nearest of each text, found by looking at every pair."""
    found = []
    for at, text in enumerate(texts):
        compared = texts if others is None else others
        scores = [
            (2 * common(text, other) / (len(text) + len(other)), -place)
            for place, other in enumerate(compared)
            if text and other and not (others is None and place == at)
        ]
        score, place = max(scores, default=(float("nan"), 1))
        found.append((score, -place))
    return found


def arrays(texts: list[list[int]]) -> list[Any]:
    return [np.array(text, np.int64) for text in texts]


@pytest.mark.parametrize("bits", [8, 64, 1 << 14])
@given(some_texts, some_texts)
@settings(max_examples=150, deadline=None)
def test_the_nearest_is_that_of_looking_at_every_pair(
    bits: int, texts: list[list[int]], others: list[list[int]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subsequence, "BLOCK_BITS", bits)
        for compared in (None, others):
            scores, places = nearest(arrays(texts), None if compared is None else arrays(compared))
            expected = searched(texts, compared)
            np.testing.assert_array_equal(scores, [score for score, _ in expected])
            assert places.tolist() == [place for _, place in expected]


def test_tokens_are_equal_in_lower_case() -> None:
    one, two, none = numbered(pa.array([["The", "the", "Ä"], ["THE", "ä"], []], pa.list_(pa.string())))
    assert one.tolist() == [two[0], two[0], two[1]]
    assert two[0] != two[1]
    assert not len(none)


def test_the_metric_names_mean_share_labels_and_the_nearest_pairs() -> None:
    rows = some(ROWS, ["sport", "sport", "money", "none"])
    found = measure(NearestRougeL(), rows, some(["Shares fell in London today .", "Oh"]))
    other, gold = found["rows"], found["gold"]
    assert (found["n"], found["gold_n"], found["without_tokens"]) == (4, 2, 0)
    # The two matches have "the match ended", one of the last three words, and the full stop in common.
    alike, shares, leaked = 2 * 5 / 14, 2 * 1 / 12, 2 * 5 / 11
    assert other["mean"] == pytest.approx((alike + alike + shares + 0) / 4)
    assert other["alike"] == 0.5
    assert other["labels"] == pytest.approx({"money": shares, "none": 0, "sport": alike})
    assert other["quantiles"]["0.5"] == pytest.approx((alike + shares) / 2)
    pair = other["nearest"][0]
    assert {pair["id"], pair["other"]} == {"000000", "000001"}
    assert pair["score"] == pytest.approx(alike)
    assert [each["id"] for each in other["nearest"]].count("000000") <= 1
    assert gold["nearest"][0] == {"id": "000002", "other": "000000", "score": pytest.approx(leaked)}
    assert gold["alike"] == 0.25
    assert len(gold["nearest"]) == 4
    assert json.loads(json.dumps(found)) == found


def test_a_row_counts_for_each_of_its_labels() -> None:
    rows = drawn(["1", "2"], ["one two", "one three"], [("a", "b"), ("b",)])
    assert measure(NearestRougeL(), rows)["rows"]["labels"] == {"a": 0.5, "b": 0.5}


def test_equal_rows_are_as_near_as_can_be() -> None:
    found = measure(NearestRougeL(), some(["😀 🎉 word"] * 3), some(["😀 🎉 WORD"]))
    for side in ("rows", "gold"):
        assert found[side]["mean"] == found[side]["alike"] == 1
        assert set(found[side]["quantiles"].values()) == {1.0}


def test_ten_pairs_are_named_at_most() -> None:
    found = measure(NearestRougeL(), some(["one and the same"] * 30))["rows"]["nearest"]
    assert len(found) == 10
    assert len({frozenset((pair["id"], pair["other"])) for pair in found}) == 10


def test_rows_without_tokens_are_left_out() -> None:
    found = measure(NearestRougeL(), some(["one two", "", "one two", " "]), some(["", "one"]))
    assert (found["n"], found["without_tokens"]) == (4, 2)
    assert found["rows"]["mean"] == 1
    assert found["gold"]["mean"] == pytest.approx(2 / 3)


def test_what_cannot_be_measured_has_a_reason() -> None:
    with pytest.raises(NotComputed, match="no row has a token"):
        measure(NearestRougeL(), some(["", " "]))
    with pytest.raises(NotComputed, match="1 row"):
        measure(NearestRougeL(), some([]))
    found = measure(NearestRougeL(), some(["one"]), some([""]))
    assert "no other text" in found["rows"]["not_computed"]
    assert "no other text" in found["gold"]["not_computed"]
    assert "task.test" in measure(NearestRougeL(), some(["one", "two"]))["gold"]["not_computed"]


def test_a_very_long_row_is_measured() -> None:
    long = " ".join(f"word{number % 1000}" for number in range(100_000))
    found = measure(NearestRougeL(), some([long, "word1 word0 word2"]))
    assert found["rows"]["mean"] == pytest.approx(2 * 3 / 100_003)
