import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synth.metrics.meaning import Meaning, mean_cosine
from synth.metrics.metric import NotComputed
from synth.metrics.vectors import Vectors, unit
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors

LABELS = [("b",), ("a",), ("a", "c"), ("b",), ("a",), ("lone",), ("b", "a")] * 2
LABELS[12] = ("b",)
some_vectors = arrays.arrays(
    np.float32, st.tuples(st.integers(2, 12), st.integers(1, 6)), elements=st.integers(-4, 4).map(float)
)


def all_pairs(one: Vectors, other: Vectors) -> list[float]:
    """Cosines of all pairs, the long way."""
    return [
        float(a @ b / np.sqrt((a @ a) * (b @ b)))
        for a in one.astype(np.float64)
        for b in other.astype(np.float64)
    ]


def pairs_of_two(vectors: Vectors) -> list[float]:
    cosines = np.reshape(all_pairs(vectors, vectors), (len(vectors), len(vectors)))
    return cosines[~np.eye(len(vectors), dtype=bool)].tolist()


@given(some_vectors, st.integers(0, 99))
@settings(max_examples=200, deadline=None)
def test_it_is_the_mean_over_all_pairs_of_two_in_any_order(vectors: Vectors, seed: int) -> None:
    vectors = unit(vectors[np.abs(vectors).sum(axis=1) > 0])
    if len(vectors) < 2:
        return
    found = mean_cosine(vectors)
    assert found == pytest.approx(np.mean(pairs_of_two(vectors)), abs=1e-6)
    assert mean_cosine(np.random.default_rng(seed).permutation(vectors)) == pytest.approx(found, abs=1e-12)


def test_figures_are_those_of_brute_force_overall_within_labels_and_between_them() -> None:
    vectors = random_vectors(14, 24)
    found = Meaning(encoder=ENCODER).measure(given_vectors(rows=vectors, labels=LABELS))
    members = {
        name: vectors[[place for place, labels in enumerate(LABELS) if name in labels]]
        for name in ("a", "b", "c", "lone")
    }
    assert found["n"] == 14
    assert found["mean_cosine"] == pytest.approx(np.mean(pairs_of_two(vectors)), abs=1e-6)
    assert found["diversity"] == pytest.approx(1 - found["mean_cosine"])
    assert {name: each["n"] for name, each in found["labels"].items()} == {"a": 8, "b": 7, "c": 2}
    inside = {name: np.mean(pairs_of_two(members[name])) for name in "abc"}
    for name, expected in inside.items():
        assert found["labels"][name]["mean_cosine"] == pytest.approx(expected, abs=1e-6)
    assert found["within_labels"]["mean_cosine"] == pytest.approx(np.mean([*inside.values()]), abs=1e-6)
    assert found["label_matrix"]["labels"] == [*members]
    for one, row in zip(members.values(), found["label_matrix"]["mean_cosine"], strict=True):
        expected = [np.mean(all_pairs(one, other)) for other in members.values()]
        assert row == pytest.approx(expected, abs=1e-6)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_gold_is_measured_whole_and_at_the_same_number() -> None:
    rows, gold = random_vectors(12, 8), random_vectors(30, 8, seed=1)
    found = Meaning(encoder=ENCODER).measure(given_vectors(rows=rows, gold=gold))
    assert found["gold_n"] == 30
    assert found["gold"]["mean_cosine"] == pytest.approx(np.mean(pairs_of_two(gold)), abs=1e-6)
    assert found["gold"]["labels"]["a"] == {"n": 30} | {
        key: found["gold"][key] for key in ("mean_cosine", "diversity")
    }
    same = found["gold_same_n"]
    assert same["n"] == 12
    assert same["rows"]["mean_cosine"] == found["mean_cosine"]
    assert same["gold"]["mean_cosine"] == pytest.approx(np.mean(pairs_of_two(gold[:12])), abs=1e-6)


def test_equal_rows_have_no_diversity_and_labels_of_one_row_no_figure() -> None:
    vectors = np.repeat(random_vectors(1, 384), 9, axis=0)
    labels = [("a",)] * 8 + [("b",)]
    found = Meaning(encoder=ENCODER).measure(given_vectors(rows=vectors, labels=labels))
    assert (found["mean_cosine"], found["diversity"]) == (1, 0)
    assert [*found["labels"]] == ["a"]
    alone = Meaning(encoder=ENCODER).measure(given_vectors(rows=vectors[:2], labels=[("a",), ("b",)]))
    assert alone["labels"] == {}
    assert "within_labels" not in alone


def test_too_many_labels_have_no_matrix() -> None:
    labels = [(str(place // 2),) for place in range(10)]
    data = given_vectors(rows=random_vectors(10, 4), labels=labels)
    assert len(Meaning(encoder=ENCODER, matrix_labels=5).measure(data)["label_matrix"]["labels"]) == 5
    assert "label_matrix" not in Meaning(encoder=ENCODER, matrix_labels=4).measure(data)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_vectors(20, 6)
    with pytest.raises(NotComputed, match=r"metrics\.meaning\.encoder"):
        Meaning().measure(given_vectors(rows=rows))
    with pytest.raises(NotComputed, match="2 rows at least"):
        Meaning(encoder=ENCODER).measure(given_vectors(rows=rows[:1]))
    found = Meaning(encoder=ENCODER).measure(given_vectors(rows=rows))
    assert "task.test" in found["gold"]["not_computed"]
    assert "gold_same_n" not in found
    one = Meaning(encoder=ENCODER).measure(given_vectors(rows=rows, gold=rows[:1]))
    assert "2 texts at least" in one["gold"]["not_computed"]
    few = Meaning(encoder=ENCODER, umap=True).measure(given_vectors(rows=rows[:9]))
    assert "16 rows at least" in few["umap"]["not_computed"]
    monkeypatch.setitem(sys.modules, "umap", None)
    without = Meaning(encoder=ENCODER, umap=True).measure(given_vectors(rows=rows))
    assert "pip install nightshift[umap]" in without["umap"]["not_computed"]
    assert without["mean_cosine"] == found["mean_cosine"]
