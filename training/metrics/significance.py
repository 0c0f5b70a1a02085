"""Whether one classifier is better than another on the same gold rows, or only luckier."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
_LOT = 500

Right = npt.NDArray[np.floating]
"""For each gold row the share of runs that labelled it rightly, shape (rows,)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Accuracy of one less that of the other, its 95 % interval, and p of there being none (two-sided)."""

    points: float
    low: float
    high: float
    p: float


def difference(one: Right, other: Right, resamples: int = RESAMPLES, rng_seed: int = 0) -> Difference:
    """Compare two classifiers row by row.

    p is that of the paired randomisation test (Noreen 1989: the two answers to a row change places by a
    coin), the interval that of the paired bootstrap. Rows alone are drawn: how far other trainings would
    differ is told by the spread of the runs. ValueError when there are no rows, or not the same number.
    """
    if one.shape != other.shape or not len(one):
        raise ValueError(f"{len(one)} and {len(other)} rows cannot be compared one by one")
    apart = one.astype(np.float64) - other
    observed = float(apart.mean())
    rng = np.random.default_rng(rng_seed)
    swapped, drawn = list[npt.NDArray[np.float64]](), list[npt.NDArray[np.float64]]()
    for start in range(0, resamples, _LOT):
        count = min(_LOT, resamples - start)
        signs = rng.integers(0, 2, (count, len(apart)), dtype=np.int8) * 2 - 1
        swapped.append(signs @ apart / len(apart))
        drawn.append(apart[rng.integers(0, len(apart), (count, len(apart)))].mean(axis=1))
    # A sum of the same numbers in another order may differ in its last digits.
    as_far = np.abs(np.concatenate(swapped)) >= abs(observed) - 1e-12
    low, high = np.quantile(np.concatenate(drawn), [0.025, 0.975])
    return Difference(observed, float(low), float(high), float((as_far.sum() + 1) / (resamples + 1)))
