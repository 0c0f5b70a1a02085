import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from synth.metrics.metric import NotComputed
from synth.metrics.vectors import unit
from synth.metrics.vendi import Vendi, vendi_score
from tests.unit.synth.vectors_given import ENCODER, given_vectors, random_vectors

some_vectors = arrays.arrays(
    np.float32,
    st.tuples(st.integers(2, 12), st.integers(1, 12)),
    elements=st.integers(-4, 4).map(float),
)


def by_definition(vectors: np.ndarray) -> float:
    """Exponent of the entropy of the eigenvalues of the whole n x n matrix of cosines over n."""
    lengths = np.linalg.norm(vectors.astype(float), axis=1)
    cosines = vectors.astype(float) @ vectors.astype(float).T / np.outer(lengths, lengths)
    shares = np.linalg.eigvalsh(cosines / len(vectors))
    return math.exp(-sum(share * math.log(share) for share in shares if share > 1e-14))


@pytest.mark.parametrize(("rows", "dimension"), [(7, 30), (30, 7), (200, 64), (64, 200), (50, 50)])
def test_it_is_the_exponent_of_the_entropy_of_the_whole_matrix(rows: int, dimension: int) -> None:
    vectors = random_vectors(rows, dimension)
    assert vendi_score(vectors) == pytest.approx(by_definition(vectors), abs=2e-6)


def test_rows_without_anything_in_common_count_each_and_equal_ones_once() -> None:
    assert vendi_score(np.eye(9, dtype=np.float32)) == 9
    assert vendi_score(np.repeat(random_vectors(1, 20), 50, axis=0)) == 1
    assert vendi_score(np.repeat(np.eye(3, 8, dtype=np.float32), 5, axis=0)) == pytest.approx(3, abs=1e-6)


@given(some_vectors, st.randoms())
@settings(max_examples=100, deadline=None)
def test_order_does_not_matter_and_rows_twice_over_are_as_diverse(
    vectors: np.ndarray, random: object
) -> None:
    vectors = vectors[np.abs(vectors).sum(axis=1) > 0]
    if not len(vectors):
        return
    score = vendi_score(unit(vectors))
    assert 1 <= score <= min(len(vectors), vectors.shape[1]) + 1e-6
    assert vendi_score(unit(vectors[::-1])) == pytest.approx(score, abs=2e-6)
    assert vendi_score(unit(np.vstack([vectors, vectors]))) == pytest.approx(score, abs=2e-6)


def test_rows_and_gold_are_measured_at_the_same_number() -> None:
    rows, gold = random_vectors(40, 16), random_vectors(25, 16, seed=1)
    found = Vendi(encoder=ENCODER).measure(given_vectors(rows=rows, gold=gold))
    assert (found["n"], found["gold_n"]) == (40, 25)
    assert found["vendi"] == vendi_score(rows)
    assert found["gold_same_n"] == {
        "n": 25,
        "rows": {"vendi": vendi_score(rows[:25])},
        "gold": {"vendi": vendi_score(gold)},
    }
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_missing_is_named() -> None:
    with pytest.raises(NotComputed, match=r"metrics\.vendi\.encoder"):
        Vendi().measure(given_vectors(rows=random_vectors(4, 3)))
    with pytest.raises(NotComputed, match="2 rows at least"):
        Vendi(encoder=ENCODER).measure(given_vectors(rows=random_vectors(1, 3)))
    alone = Vendi(encoder=ENCODER).measure(given_vectors(rows=random_vectors(4, 3)))
    assert "task.test" in alone["gold"]["not_computed"]
    one = Vendi(encoder=ENCODER).measure(given_vectors(rows=random_vectors(4, 3), gold=random_vectors(1, 3)))
    assert "2 texts at least" in one["gold"]["not_computed"]
