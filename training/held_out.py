"""Rows held out to watch a training on: drawn by seed, of every label its share."""

import numpy as np

from cluster.errors import DataError
from training.checks import Targets
from training.dataset import Indices


def held_out(targets: Targets, share: float, seed: int) -> Indices:
    """Return the positions of the rows held out, in order: of each label its share, rounded; none for 0.

    Every label keeps a row to learn from, so a label with a single one has none held out. Rows that may have
    several labels are drawn without regard to them. DataError when the share comes to no row.
    """
    if not share:
        return np.empty(0, dtype=np.int64)
    random = np.random.default_rng([seed, 1])
    labels = targets if targets.ndim == 1 else np.zeros(len(targets), dtype=np.int64)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    drawn = [random.permutation(group)[: min(round(share * len(group)), len(group) - 1)] for group in groups]
    held: Indices = np.sort(np.concatenate(drawn))
    if not len(held):
        raise DataError(
            f"validation: {share:g} of {len(targets)} rows holds none out; raise it, or set it to 0"
        )
    return held
