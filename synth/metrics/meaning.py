"""Diversity of meaning: how like each other rows are, overall and within a label, by cosines of vectors."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from retrieval.settings import EncoderSettings
from synth.metrics.equal_numbers import beside_gold
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side, Texts
from synth.metrics.vectors import Vectors, embedding, embeddings, matrix, unit

_UMAP_ROWS = 16
"""UMAP looks for 15 neighbours of each row."""


class Meaning(MetricSettings):
    """Mean cosine of a row to the others, and its complement, diversity."""

    name: ClassVar[str] = "meaning"

    encoder: EncoderSettings | None = None
    """What turns texts into vectors; by default the recipe's own encoder."""
    matrix_labels: int = 50
    """Labels up to which the mean cosines of every two labels are given."""
    umap: bool = False
    """Measure rows reduced to two dimensions by UMAP too, as TarGEN did. Two dimensions keep little of what
    a cosine says, so compare it with figures made that way only."""
    umap_seed: int = 0
    """Seed of UMAP, which TarGEN left open."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        return embeddings(self.encoder, "rows", "gold")

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return the figures of rows, those of gold, and those of as many rows and gold rows.

        A row of several labels counts with each; `labels` leaves out those with one row. `label_matrix` is
        SynthesizRR's figure (its code): all pairs of two labels' rows, a row with itself among them.
        """
        feature = embedding(self.encoder, self.name)
        figures = {"n": len(data.need_rows())} | self._of(matrix(data.read(feature)), data.rows)
        beside = beside_gold(data, feature, lambda array: _spread(matrix(array)))
        if "gold_n" in beside:
            beside["gold"] = self._of(matrix(data.read(feature, "gold")), data.gold)
        return figures | beside

    def _of(self, vectors: Vectors, texts: Texts) -> dict[str, Any]:
        members = _members(texts.labels)
        labels = {
            label: {"n": len(places)} | _spread(vectors[places])
            for label, places in members.items()
            if len(places) > 1
        }
        figures: dict[str, Any] = _spread(vectors) | {"labels": labels}
        if labels:
            inside = float(np.mean([each["mean_cosine"] for each in labels.values()]))
            figures["within_labels"] = {"mean_cosine": round(inside, 6), "diversity": round(1 - inside, 6)}
        if len(members) <= self.matrix_labels:
            figures["label_matrix"] = {"labels": list(members), "mean_cosine": _between(vectors, members)}
        if self.umap:
            figures["umap"] = self._in_two_dimensions(vectors)
        return figures

    def _in_two_dimensions(self, vectors: Vectors) -> dict[str, Any]:
        if len(vectors) < _UMAP_ROWS:
            return {"not_computed": f"UMAP needs {_UMAP_ROWS} rows at least, and there are {len(vectors)}"}
        if np.ptp(vectors, axis=0).max() < 1e-6:
            return {"not_computed": "all texts have the same vector, so there is nothing to reduce"}
        # It warns of a Tensorflow that it does without, and of the one thread that a seed comes down to.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                from umap import UMAP
            except ImportError:
                return {"not_computed": "umap-learn is not installed: pip install nightshift[umap]"}
            points = UMAP(random_state=self.umap_seed, n_jobs=1).fit_transform(vectors)
        return _spread(unit(points))


def mean_cosine(vectors: Vectors) -> float:
    """Return the mean cosine over all pairs of two of n unit vectors, shape (n, dimension), n at least 2.

    The sum over pairs is that of the vectors' sum, less each with itself: n steps and not n x n.
    """
    n = len(vectors)
    total = np.square(vectors.sum(axis=0, dtype=np.float64)).sum()
    own = np.einsum("ij,ij->i", vectors, vectors).sum(dtype=np.float64)
    return float((total - own) / (n * (n - 1)))


def _spread(vectors: Vectors) -> dict[str, float]:
    if len(vectors) < 2:
        raise NotComputed(f"it needs 2 texts at least, and there are {len(vectors)}")
    mean = round(mean_cosine(vectors), 6)
    return {"mean_cosine": mean, "diversity": round(1 - mean, 6)}


def _members(labels: Sequence[tuple[str, ...]]) -> dict[str, NDArray[np.int64]]:
    """Return the places of each label's rows, labels in the order of their names."""
    members: dict[str, list[int]] = {}
    for place, names in enumerate(labels):
        for name in names:
            members.setdefault(name, []).append(place)
    return {name: np.array(members[name], np.int64) for name in sorted(members)}


def _between(vectors: Vectors, members: Mapping[str, NDArray[np.int64]]) -> list[list[float]]:
    means = np.array([vectors[places].mean(axis=0, dtype=np.float64) for places in members.values()])
    # The mean over all pairs of two groups is the product of their means.
    return [[round(float(np.sum(one * other)), 6) for other in means] for one in means]
