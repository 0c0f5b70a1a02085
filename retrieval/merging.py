"""Rankings that were made apart, put together."""

from collections.abc import Sequence

import numpy as np

from retrieval.layout import RowNumbers
from retrieval.rank import Scores


def merge(found: Sequence[tuple[Scores, RowNumbers]], top_k: int) -> tuple[Scores, RowNumbers]:
    """Merge rankings into the best top_k of each query; equal scores go in row order, padding last."""
    scores = np.concatenate([part for part, _ in found], axis=1)
    rows = np.concatenate([part for _, part in found], axis=1)
    # Each part is in order already, which this sort makes use of; parts mostly come in row order too.
    order = np.argsort(-scores, axis=1, kind="stable")
    scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
    swapped = ((scores[:, :-1] == scores[:, 1:]) & (rows[:, :-1] > rows[:, 1:])).any(axis=1)
    if swapped.any():
        order = np.lexsort((rows[swapped], -scores[swapped]), axis=1)
        rows[swapped] = np.take_along_axis(rows[swapped], order, axis=1)
    return scores[:, :top_k], rows[:, :top_k]
