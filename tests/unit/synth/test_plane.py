import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

from synth.metrics.metric import NotComputed
from synth.metrics.plane import Plane, flattened
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors


@pytest.mark.parametrize(("rows", "dimension"), [(60, 9), (9, 60), (500, 40), (2, 5), (3, 2)])
def test_places_are_those_of_scikit_learn_but_for_directions(rows: int, dimension: int) -> None:
    vectors = random_vectors(rows, dimension)
    places, explained = flattened(vectors)
    reference = PCA(2, svd_solver="full").fit(vectors.astype(np.float64))
    theirs = reference.transform(vectors.astype(np.float64))
    assert np.abs(places) == pytest.approx(np.abs(theirs), abs=1e-6)
    assert explained == pytest.approx(reference.explained_variance_ratio_.tolist(), abs=1e-6)


@given(st.integers(3, 30), st.integers(2, 12), st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_order_moves_no_point(rows: int, dimension: int, seed: int) -> None:
    vectors = random_vectors(rows, dimension, seed=seed)
    order = np.random.default_rng(seed).permutation(rows)
    places, explained = flattened(vectors)
    moved, again = flattened(vectors[order])
    assert moved == pytest.approx(places[order], abs=1e-6)
    assert again == pytest.approx(explained, abs=1e-9)


def test_threads_move_no_point() -> None:
    data = given_vectors(rows=random_vectors(400, 96), gold=random_vectors(300, 96, seed=1))
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(Plane(encoder=ENCODER).measure(data))
    assert found[0] == found[1]


def test_points_carry_label_and_side_in_order() -> None:
    rows, gold = random_vectors(6, 7), random_vectors(4, 7, seed=1)
    labels = [("b",), ("a", "z"), ("b",), (), ("a",), ("b",)]
    found = Plane(encoder=ENCODER).measure(
        given_vectors(rows=rows, gold=gold, labels=labels, gold_labels=[("c",)] * 4)
    )
    assert (found["n"], found["gold_n"], found["labels"]) == (6, 4, ["a", "b", "c"])
    assert [point[2:] for point in found["points"]] == [
        [1, 0], [0, 0], [1, 0], [-1, 0], [0, 0], [1, 0], [2, 1], [2, 1], [2, 1], [2, 1],
    ]  # fmt: skip
    places, explained = flattened(np.vstack([rows, gold]))
    assert [point[:2] for point in found["points"]] == np.round(places, 3).tolist()
    assert found["explained"] == pytest.approx(explained, abs=1e-4)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_gold_never_outnumbers_rows() -> None:
    rows, gold = random_vectors(5, 7), random_vectors(40, 7, seed=1)
    assert Plane(encoder=ENCODER).measure(given_vectors(rows=rows, gold=gold))["gold_n"] == 5
    many = random_vectors(1_200, 3)
    found = Plane(encoder=ENCODER).measure(given_vectors(rows=many, gold=many))
    assert (found["n"], found["gold_n"], len(found["points"])) == (1_200, 1_000, 2_200)


def test_what_varies_in_one_direction_lies_on_a_line() -> None:
    turned = np.array([[np.cos(angle), np.sin(angle), 0] for angle in (0.0, 1.0)], np.float32)
    found = Plane(encoder=ENCODER).measure(given_vectors(rows=turned))
    assert found["explained"] == [1, 0]
    assert [point[1] for point in found["points"]] == [0, 0]
    assert Plane(encoder=ENCODER).measure(given_vectors(rows=turned[:, :1]))["gold_n"] == 0


def test_what_is_missing_is_named() -> None:
    rows = random_vectors(4, 5)
    with pytest.raises(NotComputed, match=r"metrics\.map\.encoder"):
        Plane().measure(given_vectors(rows=rows))
    with pytest.raises(NotComputed, match="2 rows at least"):
        Plane(encoder=ENCODER).measure(given_vectors(rows=rows[:1]))
    with pytest.raises(NotComputed, match="same vector"):
        Plane(encoder=ENCODER).measure(given_vectors(rows=np.repeat(rows[:1], 5, axis=0)))
