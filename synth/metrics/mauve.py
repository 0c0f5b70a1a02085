"""MAUVE: how near the distribution of the rows is to that of the gold test rows (Pillutla et al. 2021).

Both are put into buckets by k-means over their vectors; the score is the area under the curve of the two
divergences from all mixtures of the histograms. 1 is the same distribution.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from retrieval.settings import EncoderSettings
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side, Texts
from synth.metrics.vectors import Embedding, Hidden, Vectors, matrix, steady_products

_PRESETS = {"library": {}, "synthesizrr": {"buckets": 30, "scaling": 1, "cycle": True}}
_EXPLAINED = 0.9
_ITERATIONS, _REDONE, _FIRST_SEED = 500, 5, 2
_CURVE_POINTS, _EDGE = 25, 1e-6
"""What the authors' package mauve-text has: variance kept, k-means, points of the curve and its ends."""
_FEW = 1_000
_LEAST = 50
_PERMUTED = 42

Histogram = NDArray[np.float64]


class Mauve(MetricSettings):
    """MAUVE of the rows against the gold test rows, 0 to 1, as the mean over several runs of k-means.

    It can be compared only with figures of the same featuriser, buckets, scaling and numbers of rows.
    """

    name: ClassVar[str] = "mauve"
    version: ClassVar[int] = 2

    sample: int | None = Field(default=5_000, ge=2)
    """Rows, and gold rows, that are measured at most."""
    encoder: EncoderSettings | None = None
    """What turns texts into vectors; by default the recipe's own encoder."""
    model: str | None = None
    """Causal language model that turns texts into vectors in the encoder's place: hub id, folder, or
    `package:<import name>/<path>`. The papers took `gpt2-xl`."""
    max_tokens: int = Field(default=512, ge=1)
    """Tokens of a text that the causal language model reads."""
    preset: Literal["library", "synthesizrr"] = "library"
    """What is not named below: as mauve-text has it, or as SynthesizRR (30 buckets, scaling 1, cycle)."""
    buckets: int | Literal["auto"] = Field(default="auto")
    """Buckets of k-means; auto takes a tenth of the rows or gold rows, whichever are fewer: 50 at least."""
    scaling: float = Field(default=5, gt=0)
    """The constant c of the paper: the higher, the lower are all scores."""
    cycle: bool = False
    """Repeat each label's gold rows until there are as many as rows of the label."""
    seeds: int = Field(default=5, ge=1)
    """Runs of k-means, seeds 0 and up; scores swing with them."""

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, given: Any) -> Any:
        return _PRESETS.get(given.get("preset", ""), {}) | given if isinstance(given, dict) else given

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        feature = self._feature()
        return {"rows": (feature,), "gold": (feature,)} if feature else {}

    def how_many(self, side: Side) -> int | None:
        """Return how many texts of a side its features are read of: all gold rows where they are repeated."""
        return None if side == "gold" and self.cycle else self.sample

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return `mean`, `std` (None with one seed) and `scores` over the seeds, and what they rest on.

        `gold_n` counts gold rows before they are repeated. `warnings` says what speaks against the figure.
        """
        feature = self._feature()
        if feature is None:
            raise NotComputed("it needs a featuriser (metrics.mauve.encoder or metrics.mauve.model)")
        rows, gold = data.need_rows(), data.need_gold().first(None if self.cycle else self.sample)
        q, p = matrix(data.read(feature)), matrix(data.read(feature, "gold"))[: len(gold)]
        if self.cycle:
            p = p[cycled(rows, gold)]
        buckets = _tenth(min(len(p), len(q))) if self.buckets == "auto" else self.buckets
        scores = mauve_scores(p, q, buckets, self.scaling, range(self.seeds))
        return {
            "n": len(rows),
            "gold_n": len(gold),
            "mean": round(float(np.mean(scores)), 6),
            "std": round(float(np.std(scores, ddof=1)), 6) if len(scores) > 1 else None,
            "scores": [round(score, 6) for score in scores],
            "buckets": buckets,
            "scaling": self.scaling,
            "featuriser": feature.model if isinstance(feature, Hidden) else feature.encoder.model,
            "warnings": _warnings(rows, gold, buckets, self.cycle),
        }

    def _feature(self) -> Embedding | Hidden | None:
        if self.model is not None:
            return Hidden(self.model, self.max_tokens)
        return Embedding(self.encoder) if self.encoder else None


def mauve_scores(p: Vectors, q: Vectors, buckets: int, scaling: float, seeds: Sequence[int]) -> list[float]:
    """Return the score for each k-means seed, of features, shapes (gold rows, d) and (rows, d)."""
    if buckets > len(p) + len(q):
        raise NotComputed(
            f"there are {buckets} buckets for {len(p) + len(q)} texts; lower metrics.mauve.buckets"
        )
    kmeans = _faiss()
    with steady_products() as threads, ThreadPoolExecutor(threads) as pool:
        points = _reduced(np.vstack([q, p]))
        found = list(pool.map(lambda seed: _bucketed(kmeans, points, buckets, seed), seeds))
    counts = [
        [np.bincount(side, minlength=buckets) / len(side) for side in (places[len(q) :], places[: len(q)])]
        for places in found
    ]
    return [area(gold, rows, scaling) for gold, rows in counts]


def area(p: Histogram, q: Histogram, scaling: float) -> float:
    """Return the area under the divergence curve of two histograms (Pillutla et al. 2021, section 2)."""
    x, y = [1.0], [0.0]
    for weight in np.linspace(_EDGE, 1 - _EDGE, _CURVE_POINTS):
        mixture = weight * p + (1 - weight) * q
        x.append(float(np.exp(-scaling * _divergence(q, mixture))))
        y.append(float(np.exp(-scaling * _divergence(p, mixture))))
    # Along the curve x falls and y rises.
    return float(np.trapezoid([1.0, *y[::-1]], [0.0, *x[::-1]]))


def cycled(rows: Texts, gold: Texts) -> list[int]:
    """Return places of gold rows, each label's shuffled and repeated up to its rows (SynthesizRR's code)."""
    places: list[int] = []
    for label, count in sorted(Counter(labels[:1] for labels in rows.labels).items()):
        mine = [place for place, labels in enumerate(gold.labels) if labels[:1] == label]
        if mine:
            places += np.resize(np.random.RandomState(_PERMUTED).permutation(mine), count).tolist()
    if not places:
        raise NotComputed("no gold row has a label of the rows; set metrics.mauve.cycle to false")
    return places


def _tenth(texts: int) -> int:
    if texts < _LEAST:
        raise NotComputed(
            f"there are {texts} rows or gold rows, of which a tenth as buckets tell nothing: it takes "
            f"{_LEAST} of both, or metrics.mauve.buckets"
        )
    return round(texts / 10)


def _warnings(rows: Texts, gold: Texts, buckets: int, cycle: bool) -> list[str]:
    found = []
    if min(len(rows), len(gold)) < _FEW:
        found.append(f"fewer than {_FEW:,} rows or gold rows: the score depends much on which they are")
    if buckets > min(len(rows), len(gold)):
        found.append("more buckets than rows or gold rows: most buckets hold one side alone")
    missing = {each[:1] for each in rows.labels} - {each[:1] for each in gold.labels}
    if cycle and missing:
        found.append(
            f"no gold row has these labels: {', '.join(sorted(name for each in missing for name in each))}"
        )
    return found


def _divergence(p: Histogram, q: Histogram) -> float:
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / q[there])))


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise NotComputed("faiss is not installed: pip install nightshift[cpu], or [gpu]") from error
    return faiss


def _reduced(vectors: Vectors) -> Vectors:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    points = normalize(vectors)
    if np.ptp(points, axis=0).max() < 1e-6:
        raise NotComputed("all texts have the same vector, so there is nothing to compare")
    components = PCA().fit(points)
    enough = np.cumsum(components.explained_variance_ratio_) >= _EXPLAINED
    return np.ascontiguousarray(components.transform(points)[:, : int(enough.argmax()) + 1], np.float32)


def _bucketed(faiss: Any, points: Vectors, buckets: int, seed: int) -> NDArray[np.int64]:
    # OpenMP counts threads for each thread of Python by itself.
    faiss.omp_set_num_threads(1)
    kmeans = faiss.Kmeans(
        points.shape[1],
        buckets,
        niter=_ITERATIONS,
        nredo=_REDONE,
        seed=seed + _FIRST_SEED,
        min_points_per_centroid=1,
    )
    kmeans.train(points)
    return np.asarray(kmeans.index.search(points, 1)[1][:, 0])
