"""Whether one classifier is better than another: the paired tests against scipy's, exact cases, limits."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from training.metrics.significance import RESAMPLES, Difference, Right, difference


def drawn(rows: int, share: float, seed: int, runs: int = 1) -> Right:
    """Shares of runs that label rows rightly."""
    return np.random.default_rng(seed).binomial(runs, share, rows) / runs


def exact_p(one: Right, other: Right) -> float:
    """Return the share of all ways to swap answers in which they are at least as far apart."""
    apart = one - other
    sums = [abs(np.dot(signs, apart)) for signs in product((-1, 1), repeat=len(apart))]
    return float(np.mean(np.array(sums) >= abs(apart.sum()) - 1e-9))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 1, 1, 1, 1, 1, 1, 1), (0, 0, 0, 0, 0, 0, 0, 0)),
        ((1, 1, 0, 1, 1, 0, 1, 1), (1, 0, 0, 1, 0, 1, 1, 0)),
        ((1, 0.5, 1, 0, 0.75, 1, 1, 0.25, 1, 1), (0.5, 0.5, 0, 0, 0.25, 1, 0, 0.75, 1, 0)),
    ],
)
def test_p_is_the_share_of_swaps_that_are_as_far_apart(
    one: tuple[float, ...], other: tuple[float, ...]
) -> None:
    expected = exact_p(np.array(one), np.array(other))
    found = difference(np.array(one, float), np.array(other, float)).p
    # Four standard errors of a share of ten thousand draws.
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / RESAMPLES) + 1e-4)


@pytest.mark.parametrize(("shares", "runs"), [((0.7, 0.6), 1), ((0.8, 0.6), 1), ((0.75, 0.7), 5)])
def test_p_and_interval_are_scipys(shares: tuple[float, float], runs: int) -> None:
    one, other = drawn(150, shares[0], 1, runs), drawn(150, shares[1], 2, runs)
    found = difference(one, other)

    def mean(first: Right, second: Right, axis: int) -> Right:
        return np.asarray(np.mean(first - second, axis=axis))

    theirs = permutation_test(
        (one, other), mean, permutation_type="samples", vectorized=True, n_resamples=9_999, rng=3
    )
    assert found.points == pytest.approx(theirs.statistic)
    error = 4 * np.sqrt(2 * theirs.pvalue * (1 - theirs.pvalue) / 10_000)
    assert found.p == pytest.approx(theirs.pvalue, abs=error + 2e-4)
    interval = bootstrap(
        (one, other), mean, paired=True, vectorized=True, method="percentile", n_resamples=9_999, rng=3
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=0.01)


def test_equal_classifiers_are_not_told_apart() -> None:
    right = drawn(200, 0.7, 0)
    assert difference(right, right.copy()) == Difference(0.0, 0.0, 0.0, 1.0)
    # As often right, on other rows.
    other = difference(np.tile([1.0, 0.0], 100), np.tile([0.0, 1.0], 100))
    assert (other.points, other.p) == (0.0, 1.0)
    assert other.low < 0 < other.high


def test_a_clearly_better_classifier_is_no_luck() -> None:
    found = difference(drawn(400, 0.9, 0), drawn(400, 0.5, 1))
    assert found.p == 1 / (RESAMPLES + 1)
    assert 0.3 < found.low < found.points < found.high < 0.5


def test_so_few_rows_may_always_be_luck() -> None:
    found = difference(np.ones(3), np.zeros(3))
    assert found.points == found.low == found.high == 1
    assert found.p == pytest.approx(2 / 2**3, abs=0.02)
    assert difference(np.ones(1), np.zeros(1)).p == 1


def test_the_same_rows_give_the_same_answer_and_the_seed_draws_others() -> None:
    one, other = drawn(80, 0.7, 0), drawn(80, 0.6, 1)
    assert difference(one, other) == difference(one, other)
    again = difference(one, other, rng_seed=1)
    assert again.points == difference(one, other).points
    assert again != difference(one, other)


def test_what_is_given_stays_as_it_is() -> None:
    one, other = drawn(40, 0.7, 0), drawn(40, 0.6, 1)
    before = one.copy(), other.copy()
    difference(one, other)
    assert np.array_equal(one, before[0]) and np.array_equal(other, before[1])


def test_numbers_of_any_precision_are_compared() -> None:
    one, other = drawn(60, 0.7, 0, 4), drawn(60, 0.5, 1, 4)
    assert difference(one.astype(np.float32), other.astype(np.float32)) == difference(one, other)


@pytest.mark.parametrize("resamples", [1, 499, 500, 501, 1234])
def test_p_counts_every_draw_and_the_answer_itself(resamples: int) -> None:
    one = np.ones(64)
    assert difference(one, np.zeros(64), resamples).p == 1 / (resamples + 1)
    assert difference(one, one, resamples).p == 1


SHARES = st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 1.0])] * 2), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(SHARES)
def test_the_other_way_round_is_the_same_with_the_sign_turned(rows: list[tuple[float, float]]) -> None:
    one, other = (np.array(side) for side in zip(*rows, strict=True))
    there, back = difference(one, other, 1000), difference(other, one, 1000)
    assert back.points == pytest.approx(-there.points)
    assert (back.p, back.low, back.high) == pytest.approx((there.p, -there.high, -there.low))
    assert there.low - 1e-12 <= there.points <= there.high + 1e-12
    assert 0 < there.p <= 1
    assert -1 <= there.low <= there.high <= 1


@pytest.mark.parametrize(("one", "other"), [(0, 0), (3, 2), (0, 1)])
def test_answers_that_are_not_of_the_same_rows_cannot_be_compared(one: int, other: int) -> None:
    with pytest.raises(ValueError, match=f"{one} and {other} rows cannot be compared one by one"):
        difference(np.ones(one), np.ones(other))


def test_the_interval_of_many_rows_is_that_of_a_mean() -> None:
    one, other = drawn(20_000, 0.8, 0), drawn(20_000, 0.79, 1)
    found = difference(one, other, 1000)
    # The interval is that of a mean of as many independent differences.
    spread = float(np.std(one - other)) / np.sqrt(20_000)
    assert (found.low, found.high) == pytest.approx(
        (found.points - 1.96 * spread, found.points + 1.96 * spread), abs=0.002
    )
