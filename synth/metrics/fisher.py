"""Fisher's exact test, one-sided, for many tables at once, and Holm's correction for their number."""

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_ENOUGH = 1e-17
"""Share of a sum below which another of its falling terms changes nothing."""


def log_p(inside: Counts, total: Counts, group: Counts, rows: int) -> Numbers:
    """Return log p of Fisher's exact test that a trait is more frequent in a group than outside it.

    Of `rows` rows, `total` have the trait, `group` are in the group, and `inside` are both; the three arrays
    run in parallel, one table at each place. p is the probability of `inside` or more under the
    hypergeometric distribution, summed term by term.
    """
    factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, rows + 1)))))
    inside, total, group = (np.asarray(each, np.int64) for each in (inside, total, group))
    high = inside * float(rows) > total * group.astype(float)
    # Below the mean it is the other tail that falls from its first term on: that of having none of the trait.
    first = np.where(high, inside, group - inside + 1)
    trait = np.where(high, total, rows - total)
    tail = _log_tail(first, trait, group, rows, factorials)
    with np.errstate(divide="ignore"):
        return np.where(high, tail, np.log1p(-np.minimum(np.exp(tail), 1.0)))


def holm(log_p: Numbers, tests: int) -> Numbers:
    """Return p corrected by Holm for so many tests, of which those not given have p 1 (Holm 1979)."""
    order = np.argsort(log_p, kind="stable")
    steps = log_p[order] + np.log(tests - np.arange(len(log_p)))
    corrected = np.empty_like(steps)
    corrected[order] = np.exp(np.minimum(np.maximum.accumulate(steps), 0.0))
    return corrected


def odds_ratio(inside: Counts, total: Counts, group: Counts, rows: int) -> Numbers:
    """Return the odds of the trait in the group over those outside, with a half added to each count.

    A group that is empty, or holds all rows, has nothing to be compared with: 1.
    """
    outside = total - inside
    without, others = group - inside, rows - group - outside
    odds = ((inside + 0.5) * (others + 0.5)) / ((outside + 0.5) * (without + 0.5))
    return np.where((group > 0) & (group < rows), odds, 1.0)


def _log_tail(first: Counts, trait: Counts, group: Counts, rows: int, factorials: Numbers) -> Numbers:
    """Return the log of the probability of `first` or more; its terms must fall from there on."""
    result = np.full(first.shape, -np.inf)
    at = np.flatnonzero(first <= np.minimum(trait, group))
    now, trait, group = first[at].astype(float), trait[at].astype(float), group[at].astype(float)
    result[at] = _log_pmf(first[at], trait.astype(np.int64), group.astype(np.int64), rows, factorials)
    term, summed = np.ones(len(at)), np.ones(len(at))
    going = np.arange(len(at))
    while len(going):
        k, has, size = now[going], trait[going], group[going]
        term[going] *= (has - k) * (size - k) / ((k + 1) * (rows - has - size + k + 1))
        now[going] += 1
        summed[going] += term[going]
        going = going[term[going] > _ENOUGH * summed[going]]
    result[at] += np.log(summed)
    return result


def _log_pmf(k: Counts, trait: Counts, group: Counts, rows: int, factorials: Numbers) -> Numbers:
    f = factorials
    chosen = f[trait] - f[k] - f[trait - k]
    rest = f[rows - trait] - f[group - k] - f[rows - trait - group + k]
    return np.asarray(chosen + rest - (f[rows] - f[group] - f[rows - group]))
