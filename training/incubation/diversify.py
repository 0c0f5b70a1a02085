"""Self-diversification (Incubator 2404.10877): of many dictionaries, the middle one of each cluster.

A dictionary is here the texts of an instruction's labels, in their order.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from training.incubation.diversity import Diversity, diversity
from training.incubation.settings import DiversifySettings

Vectors = npt.NDArray[np.floating]
Texts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept of the distinct dictionaries of an instruction, and how diverse they were and are."""

    kept: tuple[Texts, ...]
    distinct: int
    before: Diversity | None = None
    """Of as many distinct dictionaries, drawn at random, as are kept."""
    after: Diversity | None = None
    skipped: str | None = None
    """Why nothing was kept."""


def distinct(dictionaries: Iterable[Mapping[str, str]], labels: Sequence[str]) -> list[Texts]:
    """Return different dictionaries once each, in an order that does not depend on that of the given ones."""
    return sorted({tuple(each[label] for label in labels) for each in dictionaries})


def too_few(dictionaries: Sequence[Texts], settings: DiversifySettings) -> str | None:
    """Say why distinct dictionaries cannot be clustered: they are fewer than `least` times the clusters."""
    wanted = math.ceil(settings.least * settings.clusters)
    if len(dictionaries) >= wanted:
        return None
    return f"{len(dictionaries)} distinct dictionaries; {settings.clusters} clusters want {wanted}"


def diversified(
    dictionaries: Sequence[Texts], vectors: Vectors, settings: DiversifySettings, seed: int = 0
) -> Selection:
    """Keep, of each of K clusters of distinct dictionaries, the real one nearest its centre.

    vectors are those of all texts, (dictionaries x labels, dimension), dictionary by dictionary; each is
    normed to length one, and those of a dictionary are joined in label order: E(d) is the concatenation of
    all E(d[l]) in the paper. With `distinct` before it, the result does not depend on the order of sampling.
    """
    if (why := too_few(dictionaries, settings)) is not None:
        return Selection((), len(dictionaries), skipped=why)
    whole = joined(vectors, len(dictionaries))
    chosen = nearest(whole, settings.clusters, settings.restarts, seed)
    drawn = np.random.default_rng(seed).choice(len(dictionaries), len(chosen), replace=False)
    return Selection(
        tuple(dictionaries[place] for place in chosen),
        len(dictionaries),
        before=diversity([dictionaries[place] for place in drawn], whole[drawn]),
        after=diversity([dictionaries[place] for place in chosen], whole[chosen]),
    )


def joined(vectors: Vectors, dictionaries: int) -> npt.NDArray[np.float32]:
    """Return vectors of dictionaries, (dictionaries, labels x dimension), each label's part of length one."""
    flat = vectors.astype(np.float32)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    units: npt.NDArray[np.float32] = flat / np.maximum(norms, np.finfo(np.float32).tiny)
    return units.reshape(dictionaries, -1)


def nearest(vectors: npt.NDArray[np.float32], clusters: int, restarts: int, seed: int) -> list[int]:
    """Return, ascending, the places of the samples nearest the K-means centres, one of each cluster.

    The nearest is looked for among a cluster's own samples, so that no sample stands for two centres.
    Fewer than `clusters` come back only when fewer vectors differ.
    """
    from sklearn.cluster import KMeans

    differing = len(np.unique(vectors, axis=0))
    means = KMeans(min(clusters, differing), init="k-means++", n_init=restarts, random_state=seed)
    groups = means.fit_predict(vectors)
    away = np.linalg.norm(vectors - means.cluster_centers_[groups], axis=1)
    order = np.lexsort((away, groups))
    _, firsts = np.unique(groups[order], return_index=True)
    return [int(place) for place in np.sort(order[firsts])]
