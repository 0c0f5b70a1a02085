"""A picture of the rows' meaning: rows and gold test rows together in the plane where they differ most."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.settings import EncoderSettings
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side
from synth.metrics.vectors import Vectors, embeddings, steady_products, vectors_of

_GOLD = 1_000
"""Gold rows in the picture at most, and never more than rows."""


class Plane(MetricSettings):
    """Points of rows and gold test rows on the first two principal components of their vectors."""

    name: ClassVar[str] = "map"

    sample: int | None = Field(default=2_000, ge=2)
    """Rows in the picture at most."""
    encoder: EncoderSettings | None = None
    """What turns texts into vectors; by default the recipe's own encoder."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        return embeddings(self.encoder, "rows", "gold")

    def how_many(self, side: Side) -> int | None:
        """Return how many texts of a side its features are read of."""
        return _GOLD if side == "gold" else self.sample

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return `points`: x, y, the place of the row's first label in `labels`, and 0 for rows, 1 for gold.

        Rows come first. `explained` holds the shares of all variance that the two components have. A row
        without a label has place -1.
        """
        data.need_rows()
        rows = vectors_of(data, self.name, self.encoder)
        gold = min(len(data.gold), len(rows), _GOLD)
        if gold:
            rows = np.vstack([rows, vectors_of(data, self.name, self.encoder, "gold")[:gold]])
        with steady_products():
            points, explained = flattened(rows)
        first = [names[0] if names else "" for names in data.rows.labels + data.gold.labels[:gold]]
        labels = sorted({name for name in first if name})
        at = {name: place for place, name in enumerate(labels)}
        count = len(data.rows)
        return {
            "n": count,
            "gold_n": gold,
            "labels": labels,
            "points": [
                [round(x, 3) + 0.0, round(y, 3) + 0.0, at.get(first[place], -1), int(place >= count)]
                for place, (x, y) in enumerate(points.tolist())
            ],
            "explained": [round(share, 4) for share in explained],
        }


def flattened(vectors: Vectors) -> tuple[NDArray[np.float64], list[float]]:
    """Return the first two principal components' scores, shape (n, 2), and their shares of the variance.

    Of a component's two directions it is the one in which its largest coefficient is positive. What varies
    in one direction only has zeros for the second. NotComputed when nothing varies.
    """
    points = vectors.astype(np.float64)
    points -= points.mean(axis=0)
    if np.abs(points).max(initial=0) < 1e-6:
        raise NotComputed("all texts have the same vector, so there is nothing to tell apart")
    _, scales, components = np.linalg.svd(points, full_matrices=False)
    places = np.zeros((len(points), 2))
    explained = [0.0, 0.0]
    for number in range(min(2, len(scales))):
        component = components[number]
        largest = component[np.abs(component).argmax()]
        places[:, number] = points @ (component * np.sign(largest))
        explained[number] = float(scales[number] ** 2 / np.square(scales).sum())
    return places, explained
