"""How likely a condition over the labels of students is for each row, in log space.

Incubator's conjunctive incubation (2404.10877): conditions count as independent, so AND is the product of the
probabilities; OR is 1−∏(1−p) and NOT is 1−p.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.condition import And, Condition, Literal, Not, Or

Logs = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Natural logarithms of the probabilities that something holds and that it does not, (rows,) float64.

    Both are kept because near 0 and near 1 neither can be had from the other without loss.
    """

    holds: Logs
    fails: Logs


def weigh(condition: Condition, evidence: Callable[[Literal], Evidence]) -> Evidence:
    """Return how likely a condition is for each row, from the evidence of its labels."""
    match condition:
        case Literal():
            return evidence(condition)
        case Not(of):
            found = weigh(of, evidence)
            return Evidence(found.fails, found.holds)
        case And(parts):
            holds = _total([weigh(part, evidence).holds for part in parts])
            return Evidence(holds, log1mexp(holds))
        case Or(parts):
            fails = _total([weigh(part, evidence).fails for part in parts])
            return Evidence(log1mexp(fails), fails)


def log1mexp(logs: Logs) -> Logs:
    """Return log(1 − exp(x)) for x ≤ 0, exact to the last digits at both ends (Mächler 2012, Rmpfr)."""
    with np.errstate(divide="ignore"):
        return np.where(logs > -np.log(2), np.log(-np.expm1(logs)), np.log1p(-np.exp(logs)))


def exclusive_evidence(probabilities: npt.NDArray[np.floating], label: int) -> Evidence:
    """Return the evidence of a label whose row of (rows, labels) probabilities adds up to one.

    What the other labels have is added up, since 1−p of a p near 1 would have lost it.
    """
    own = probabilities[:, label].astype(np.float64)
    others = np.delete(probabilities, label, axis=1).astype(np.float64).sum(axis=1)
    whole = own + others
    with np.errstate(divide="ignore"):
        return Evidence(_log_share(own, others, whole), _log_share(others, own, whole))


def separate_evidence(probabilities: npt.NDArray[np.floating], label: int) -> Evidence:
    """Return the evidence of a label that any other may go with."""
    own = probabilities[:, label].astype(np.float64)
    with np.errstate(divide="ignore"):
        return Evidence(np.log(own), np.log1p(-own))


def _log_share(own: Logs, others: Logs, whole: Logs) -> Logs:
    # Rounded probabilities add up to nearly one: a share of their sum keeps both sides consistent.
    return np.where(own < others, np.log(own / whole), np.log1p(-others / whole))


def _total(logs: Sequence[Logs]) -> Logs:
    return np.sum(np.stack(logs), axis=0)
