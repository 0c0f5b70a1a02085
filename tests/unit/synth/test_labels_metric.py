"""Label balance, against plain counting and scipy."""

import json
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from synth.metrics.balance import LabelBalance
from synth.metrics.metric import NotComputed, Texts, drawn
from tests.unit.synth.measuring import measure, some

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=40)


def labelled(labels: list[str]) -> Texts:
    return some(["text"] * len(labels), labels)


def several(*labels: tuple[str, ...]) -> Texts:
    return drawn([str(place) for place in range(len(labels))], ["text"] * len(labels), list(labels))


def test_counts_shares_and_distance_by_hand() -> None:
    result = measure(LabelBalance(), labelled(["a"] * 6 + ["b"] * 2), labelled(["a", "b", "b", "c"]))
    assert result["n"] == 8
    assert result["labels"] == {
        "a": {"rows": 6, "share": 0.75},
        "b": {"rows": 2, "share": 0.25},
        "c": {"rows": 0, "share": 0.0},
    }
    assert result["imbalance"] == 3.0
    assert result["without_rows"] == ["c"]
    assert result["gold_n"] == 4
    # |.75 - .25| + |.25 - .5| + |0 - .25|, halved
    assert result["gold"]["distance"] == pytest.approx(0.5)
    assert result["gold"]["imbalance"] == 2.0


@settings(deadline=None)
@given(LABELS, LABELS)
def test_entropy_and_distance_are_those_of_scipy_and_numpy(mine: list[str], theirs: list[str]) -> None:
    result = measure(LabelBalance(), labelled(mine), labelled(theirs))
    known = sorted({*mine, *theirs})
    p, q = (np.array([Counter(side)[label] / len(side) for label in known]) for side in (mine, theirs))
    if len(known) > 1:
        assert result["entropy"] == pytest.approx(entropy(p) / np.log(len(known)), abs=1e-12)
        assert result["gold"]["entropy"] == pytest.approx(entropy(q) / np.log(len(known)), abs=1e-12)
    assert result["gold"]["distance"] == pytest.approx(np.abs(p - q).sum() / 2)
    json.dumps(result, allow_nan=False)


@settings(deadline=None)
@given(LABELS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(labels: list[str], rng: random.Random) -> None:
    mixed = rng.sample(labels, len(labels))
    assert measure(LabelBalance(), labelled(labels)) == measure(LabelBalance(), labelled(mixed))


def test_equal_shares_are_even_and_one_of_two_known_labels_is_not() -> None:
    assert measure(LabelBalance(), labelled([*"abcabc"]))["entropy"] == pytest.approx(1.0)
    assert measure(LabelBalance(), labelled(["a"] * 3), labelled(["a", "b"]))["entropy"] == 0.0


def test_one_label_alone_has_no_entropy_and_no_gold_no_distance() -> None:
    result = measure(LabelBalance(), labelled(["a"]))
    assert result["entropy"] == {"not_computed": "there is only one label"}
    assert "task.test" in result["gold"]["not_computed"]
    assert result["imbalance"] == 1.0


def test_a_row_counts_for_each_of_its_labels_once() -> None:
    result = measure(LabelBalance(), several(("a", "b"), ("a",), ("b", "b")))
    assert [result["labels"][label]["rows"] for label in "ab"] == [2, 2]
    assert result["labels"]["a"]["share"] == 0.5
    assert result["several"] == 1


def test_no_rows_and_no_labels_are_refused() -> None:
    with pytest.raises(NotComputed, match="1 rows"):
        measure(LabelBalance(), some([]))
    with pytest.raises(NotComputed, match="no row has a label"):
        measure(LabelBalance(), several((), ()))
    gold = measure(LabelBalance(), labelled(["a", "b"]), several((), ()))["gold"]
    assert gold == {"not_computed": "no gold test row has a label"}
