"""How diverse dictionaries are: distances of their embeddings, and the share of distinct word pairs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Diversity:
    """Two measures over n dictionaries; both grow with diversity, the second falls with n."""

    dictionaries: int
    distance: float
    """Mean cosine distance of two of their embeddings."""
    distinct_2: float
    """Distinct pairs of neighbouring words, as a share of all, in the mean over labels."""


def diversity(dictionaries: Sequence[Sequence[str]], vectors: npt.NDArray[np.float32]) -> Diversity:
    """Measure dictionaries, each its texts in label order; vectors are theirs, (dictionaries, any)."""
    shares = [distinct_2(texts) for texts in zip(*dictionaries, strict=True)]
    return Diversity(len(dictionaries), mean_distance(vectors), float(np.mean(shares)))


def mean_distance(vectors: npt.NDArray[np.float32]) -> float:
    """Return the mean cosine distance over all pairs of different rows; 0 for fewer than two rows."""
    rows = len(vectors)
    if rows < 2:
        return 0.0
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors.astype(np.float64) / np.maximum(norms, np.finfo(np.float32).tiny)
    # The square of a sum holds every pair twice, and each row with itself.
    likeness = float(np.square(units.sum(axis=0)).sum() - np.square(units).sum()) / (rows * (rows - 1))
    return 1.0 - likeness


def distinct_2(texts: Iterable[str]) -> float:
    """Return the distinct pairs of neighbouring words of some texts as a share of all their pairs."""
    pairs = [pair for text in texts for pair in pairwise(text.split())]
    return len(set(pairs)) / len(pairs) if pairs else 0.0
