"""Holding rows out for a metric, of every label alike."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from cluster.errors import DataError


def held_out(rows: pa.Table, labels: Sequence[str], share: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Return (rows to learn from, rows held out): of each label's n rows about share * n are held out.

    At least one row of a label stays to learn from, and one is held out where there are two. The draw
    depends on the seed and on the rows' order; both parts keep that order. DataError when nothing is left.
    """
    random, out = np.random.default_rng(seed), np.zeros(len(rows), dtype=bool)
    names = np.asarray(rows["label"].to_pylist())
    for label in labels:
        members = np.flatnonzero(names == label)
        count = min(len(members) - 1, max(1, round(share * len(members))))
        out[random.permutation(members)[: max(0, count)]] = True
    if not out.any():
        raise DataError("no row can be held out: no label has two rows; give more gold rows")
    return rows.filter(pa.array(~out)), rows.filter(pa.array(out))
