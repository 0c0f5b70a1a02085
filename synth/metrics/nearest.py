"""Nearest neighbours by meaning: of each row the nearest seed, gold test row and other row."""

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from retrieval.settings import EncoderSettings
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side, Texts
from synth.metrics.vectors import Vectors, embeddings, steady_products, vectors_of

_ROWS = 512
_OTHERS = 8_192
"""Rows and others that are multiplied at a time: 16 MB of cosines."""
_PAIRS = 10

Places = NDArray[np.int64]
Cosines = NDArray[np.float64]


class Nearest(MetricSettings):
    """Cosine of each row to its nearest seed, its nearest gold test row, and its nearest other row."""

    name: ClassVar[str] = "nearest"

    sample: int | None = Field(default=50_000, ge=2)
    """Rows that are measured at most; each is compared with each other, so ten times the rows take a hundred
    times as long."""
    encoder: EncoderSettings | None = None
    """What turns texts into vectors; by default the recipe's own encoder."""
    alike: float = Field(default=0.95, gt=0, le=1)
    """Cosine from which two texts count as alike."""
    shown: int = Field(default=12, ge=0)
    """Rows of each label that are shown beside their nearest gold row."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        return embeddings(self.encoder, "rows", "gold", "seeds")

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return for `seeds`, `gold` and `rows` the others' number, the rows' cosines and the nearest pairs.

        `examples` has rows of each label with their nearest gold row, none without gold rows.
        """
        data.need_rows(1)
        rows = vectors_of(data, self.name, self.encoder)
        figures: dict[str, Any] = {"n": len(rows), "alike": self.alike, "examples": []}
        sides: tuple[Side, ...] = ("seeds", "gold", "rows")
        for side in sides:
            try:
                found = self._nearest(data, rows, side)
            except NotComputed as reason:
                figures[side] = {"not_computed": str(reason)}
                continue
            figures[side] = self._figures(data.rows, getattr(data, side), *found)
            if side == "gold":
                figures["examples"] = self._examples(data, *found)
        return figures

    def _nearest(self, data: Measured, rows: Vectors, side: Side) -> tuple[Places, Cosines]:
        if side == "rows":
            data.need_rows(2)
            return nearest(rows)
        _ = data.need_gold() if side == "gold" else data.need_seeds()
        return nearest(rows, vectors_of(data, self.name, self.encoder, side))

    def _figures(self, rows: Texts, others: Texts, places: Places, cosines: Cosines) -> dict[str, Any]:
        quantiles = {str(level): round(float(np.quantile(cosines, level)), 6) for level in (0.5, 0.9, 0.99)}
        return {
            "n": len(others),
            "mean": round(float(cosines.mean()), 6),
            "quantiles": quantiles,
            "share_alike": float((cosines >= self.alike).mean()),
            "pairs": _highest(rows, others, places, cosines),
        }

    def _examples(self, data: Measured, places: Places, cosines: Cosines) -> list[dict[str, Any]]:
        shown = Counter[str]()
        examples = []
        for row, labels in enumerate(data.rows.labels):
            for label in labels:
                shown[label] += 1
                if shown[label] <= self.shown:
                    pair = _pair(data.rows, data.gold, row, places, cosines)
                    examples.append({"label": label} | pair)
        return sorted(examples, key=lambda example: str(example["label"]))


def nearest(rows: Vectors, others: Vectors | None = None) -> tuple[Places, Cosines]:
    """Return for each row the place of the nearest other vector, and their cosine, rounded to 6 decimals.

    Without others each row is compared with the other rows. Shapes (rows, dimension) and (others, dimension),
    of unit length, at least one to compare with. Exact but for roundings of single precision.
    """
    compared = rows if others is None else others
    starts = range(0, len(rows), _ROWS)
    with steady_products() as threads, ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(lambda start: _block(rows, compared, start, others is None), starts))
    return np.concatenate([places for places, _ in blocks]), np.concatenate(
        [cosines for _, cosines in blocks]
    )


def _block(rows: Vectors, others: Vectors, first: int, itself: bool) -> tuple[Places, Cosines]:
    block = rows[first : first + _ROWS]
    every = np.arange(len(block))
    best = np.full(len(block), -np.inf, np.float32)
    places = np.zeros(len(block), np.int64)
    for start in range(0, len(others), _OTHERS):
        cosines = block @ others[start : start + _OTHERS].T
        own = first + every - start
        if itself:
            inside = (own >= 0) & (own < cosines.shape[1])
            cosines[every[inside], own[inside]] = -np.inf
        there = cosines.argmax(axis=1)
        found = cosines[every, there]
        better = found > best
        best[better], places[better] = found[better], there[better] + start
    pairs = np.stack([block, others[places]]).astype(np.float64)
    lengths = np.linalg.norm(pairs, axis=2).prod(axis=0)
    exact = np.einsum("ij,ij->i", *pairs) / np.where(lengths > 0, lengths, 1)
    return places, np.round(exact, 6)


def _highest(rows: Texts, others: Texts, places: Places, cosines: Cosines) -> list[dict[str, Any]]:
    """Return the nearest pairs; rows that are nearest to each other make one."""
    found: dict[frozenset[str], dict[str, Any]] = {}
    for row in np.argsort(-cosines, kind="stable").tolist():
        pair = _pair(rows, others, row, places, cosines)
        found.setdefault(frozenset((pair["row"], pair["other"])), pair)
        if len(found) == _PAIRS:
            break
    return list(found.values())


def _pair(rows: Texts, others: Texts, row: int, places: Places, cosines: Cosines) -> dict[str, Any]:
    return {"row": rows.ids[row], "other": others.ids[int(places[row])], "cosine": float(cosines[row])}
