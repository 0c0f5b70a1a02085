"""A dataset's profile: lengths, readability, characters and variety of words, beside gold rows."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from synth.filters.reading import Reading
from synth.metrics.characters import character_shares
from synth.metrics.linguistics import Tokens
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side
from synth.metrics.readability import capitals, readable, sentences

QUANTILES = (5, 25, 50, 75, 95)
BINS = 30
"""Bins of a histogram at most; the last one takes all lengths beyond the 99th percentile."""

Numbers = NDArray[np.float64]
Values = Mapping[str, Numbers]
"""For each trait, its value for every text; NaN where a text has none."""


class Profile(MetricSettings):
    """How long, how hard to read and how varied texts are, each as mean, standard deviation and quantiles.

    Tokens are spaCy's; words are counted as the filters do, sentences by full stops and the like. Flesch
    reading ease and Flesch-Kincaid grade are made for English, and left out for texts without Latin words.
    `digits` and `punctuation` are shares of characters, `capitals` of words with a capital first, `variety`
    is the type-token ratio, without regard to case, which falls with length. Standard deviations are those of
    a whole population.
    """

    name: ClassVar[str] = "profile"

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Tokens of rows and gold test rows."""
        return {"rows": (Tokens(),), "gold": (Tokens(),)}

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return all traits, overall and by label; distance of token lengths to gold, and their histogram.

        `wasserstein` is in tokens, `ks` the Kolmogorov-Smirnov statistic, 0 to 1. Without gold there is no
        distance, and the histogram has the rows alone.
        """
        rows = data.need_rows(1)
        mine = traits(rows.texts, data.read(Tokens()))
        result = {"n": len(rows), "rows": summary(mine), "labels": _by_label(mine, rows.labels)}
        try:
            gold = data.need_gold()
        except NotComputed as reason:
            told = {"not_computed": str(reason)}
            return result | {"gold": told, "distance": told, "histogram": histogram({"rows": mine["tokens"]})}
        theirs = traits(gold.texts, data.read(Tokens(), "gold"))
        sides = {"rows": mine["tokens"], "gold": theirs["tokens"]}
        return result | {
            "gold_n": len(gold),
            "gold": summary(theirs),
            "distance": distance(**sides),
            "histogram": histogram(sides),
        }


def traits(texts: Sequence[str], tokens: pa.Array) -> Values:
    """Return every trait of every text."""
    read = [readable(text) for text in texts]
    digits, punctuation = character_shares(texts)
    return {
        "tokens": tokens.value_lengths().to_numpy(zero_copy_only=False).astype(float),
        "words": np.array([Reading(text).length for text in texts], float),
        "characters": np.array([len(text) for text in texts], float),
        "sentences": np.array([sentences(text) for text in texts], float),
        "flesch_ease": np.array([each.ease if each else np.nan for each in read]),
        "flesch_grade": np.array([each.grade if each else np.nan for each in read]),
        "digits": digits,
        "punctuation": punctuation,
        "capitals": np.array([capitals(text) for text in texts]),
        "variety": variety(tokens),
    }


def variety(tokens: pa.Array) -> Numbers:
    """Return the type-token ratio of each text, without regard to case; NaN without tokens."""
    lengths = tokens.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    encoded = tokens.flatten().dictionary_encode()
    folded = {
        word: place for place, word in enumerate({each.casefold() for each in encoded.dictionary.to_pylist()})
    }
    types = np.array([folded[each.casefold()] for each in encoded.dictionary.to_pylist()], np.int64)
    texts = np.repeat(np.arange(len(lengths)), lengths)
    pairs = np.unique(texts * max(1, len(folded)) + types[encoded.indices.to_numpy(zero_copy_only=False)])
    distinct = np.bincount(pairs // max(1, len(folded)), minlength=len(lengths)).astype(float)
    return np.divide(distinct, lengths, out=np.full(len(lengths), np.nan), where=lengths > 0)


def summary(values: Values) -> dict[str, Any]:
    """Return mean, deviation and quantiles of every trait, over the `n` texts that have it."""
    return {name: _summed(each[~np.isnan(each)]) for name, each in values.items()}


def _summed(values: Numbers) -> dict[str, Any]:
    if not len(values):
        return {"not_computed": "no text has what it is counted on"}
    quantiles = np.percentile(values, QUANTILES).tolist()
    return {
        "n": len(values),
        "mean": float(values.mean()),
        "std": float(values.std()),
        **{f"q{percent:02}": value for percent, value in zip(QUANTILES, quantiles, strict=True)},
    }


def _by_label(values: Values, labels: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    places: dict[str, list[int]] = {
        label: [] for label in sorted({each for given in labels for each in given})
    }
    for place, given in enumerate(labels):
        for label in dict.fromkeys(given):
            places[label].append(place)
    return {label: summary({name: each[at] for name, each in values.items()}) for label, at in places.items()}


def distance(rows: Numbers, gold: Numbers) -> dict[str, float]:
    """Return how far apart two sets of lengths are."""
    from scipy.stats import wasserstein_distance

    # scipy's own statistic comes with a p that it cannot always give.
    values = np.concatenate((rows, gold))
    mine, theirs = (np.searchsorted(np.sort(side), values, "right") / len(side) for side in (rows, gold))
    return {
        "wasserstein": float(wasserstein_distance(rows, gold)),
        "ks": float(np.abs(mine - theirs).max()),
    }


def histogram(sides: Mapping[str, Numbers]) -> dict[str, Any]:
    """Return the texts of each side in bins of whole numbers, each from its edge to below the next one.

    The bins are equally wide; the last takes in what is longer, its upper edge too.
    """
    values = np.concatenate(list(sides.values()))
    low, high = int(values.min()), int(np.percentile(values, 99))
    width = (high - low) // (BINS - 1) + 1
    edges = [*range(low, high + width + 1, width)]
    edges[-1] = max(edges[-1], int(values.max()))
    return {"edges": edges, **{side: np.histogram(each, edges)[0].tolist() for side, each in sides.items()}}
