"""Vendi score: how many rows without anything in common would be as diverse as these."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from retrieval.settings import EncoderSettings
from synth.metrics.equal_numbers import beside_gold
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side
from synth.metrics.vectors import Vectors, embedding, embeddings, matrix, steady_products


class Vendi(MetricSettings):
    """Effective number of different rows by their vectors' cosines (Friedman and Dieng 2023)."""

    name: ClassVar[str] = "vendi"

    sample: int | None = Field(default=5_000, ge=2)
    """Rows that are measured at most; the score rises with their number, so compare equal ones only."""
    encoder: EncoderSettings | None = None
    """What turns texts into vectors; by default the recipe's own encoder."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        return embeddings(self.encoder, "rows", "gold")

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return the score, 1 to n, and beside it those of gold rows, and of as many rows and gold rows."""
        feature = embedding(self.encoder, self.name)
        figures = {"n": len(data.need_rows())} | _scored(data.read(feature))
        return figures | beside_gold(data, feature, _scored)


def _scored(array: pa.Array) -> dict[str, float]:
    if len(array) < 2:
        raise NotComputed(f"it needs 2 texts at least, and there are {len(array)}")
    with steady_products():
        return {"vendi": vendi_score(matrix(array))}


def vendi_score(vectors: Vectors) -> float:
    """Return exp of the entropy of the eigenvalues of K / n, K the cosines of vectors, shape (n, dimension).

    The cosine is a linear kernel, whose n x n and dimension x dimension matrices have the same eigenvalues
    but for zeros: the smaller one will do. Rounded to 6 decimals.
    """
    points = vectors.astype(np.float64)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    points /= np.where(lengths > 0, lengths, 1)
    wide = points.shape[1] > len(points)
    shares = np.linalg.eigvalsh(points @ points.T if wide else points.T @ points)
    shares = shares[shares > 0] / shares[shares > 0].sum()
    return round(float(np.exp(-(shares * np.log(shares)).sum())), 6)
