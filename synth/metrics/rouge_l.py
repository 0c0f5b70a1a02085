"""Nearest Rouge-L: how much of a row stands, in the same order, in the gold or the other row most like it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from synth.metrics.linguistics import Tokens
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side, Texts
from synth.metrics.ngrams import Numbers
from synth.metrics.subsequence import nearest

QUANTILES = (0.5, 0.9, 0.99)
ALIKE = 0.7
"""From this Rouge-L on a row counts as alike (Self-Instruct, Wang et al. 2023, refuses such tasks)."""
SHOWN = 10
"""Pairs that are named as the nearest."""


class NearestRougeL(MetricSettings):
    """Rouge-L (0 to 1) of each row with the nearest gold test row, which tells of leaks, and other row.

    Rouge-L F1 (Lin 2004, beta = 1) of two texts is twice the length of their longest common subsequence of
    tokens, in lower case, over the tokens of both. Every pair is looked at: time grows with the tokens of the
    rows times those of the gold rows, minutes for 2,000 rows of 250 tokens and as long gold rows.
    """

    name: ClassVar[str] = "nearest_rouge_l"

    sample: int | None = Field(default=2000, ge=2)
    """Rows that are measured at most, drawn by the hash of their ids; null for all of them."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Return the tokens of rows and gold."""
        return {"rows": (Tokens(),), "gold": (Tokens(),)}

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return how near the rows are to `gold` and to other `rows`, the share of ALIKE ones, and pairs."""
        rows = data.need_rows(1)
        tokens = data.read(Tokens())
        gold = data.read(Tokens(), "gold") if len(data.gold) else tokens[:0]
        texts = numbered(pa.concat_arrays([tokens, gold]))
        mine, theirs = texts[: len(rows)], texts[len(rows) :]
        empty = sum(not len(text) for text in mine)
        if empty == len(rows):
            raise NotComputed("no row has a token; look at the rows")
        return {
            "n": len(rows),
            "without_tokens": empty,
            "gold": _or_reason(lambda: _figures(rows, mine, data.need_gold(), theirs)),
            "gold_n": len(data.gold),
            "rows": _or_reason(lambda: _figures(rows, mine, rows, mine)),
        }


def numbered(tokens: pa.ListArray) -> list[Numbers]:
    """Return the tokens of each text as numbers, equal for tokens that are equal in lower case."""
    ends = np.cumsum(tokens.value_lengths().to_numpy(zero_copy_only=False))
    ids = pc.utf8_lower(tokens.flatten()).dictionary_encode().indices.to_numpy(zero_copy_only=False)
    return np.split(ids.astype(np.int64), ends[:-1])


def _or_reason(figures: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return figures()
    except NotComputed as reason:
        return {"not_computed": str(reason)}


def _figures(
    rows: Texts, mine: Sequence[Numbers], others: Texts, theirs: Sequence[Numbers]
) -> dict[str, Any]:
    """Return how near rows are to others; the others may be the rows themselves."""
    same = others is rows
    scores, places = nearest(mine, None if same else theirs)
    known = np.flatnonzero(places >= 0)
    if not len(known):
        raise NotComputed("there is no other text with tokens to compare with")
    near, by_label = scores[known], dict[str, list[float]]()
    for at in known.tolist():
        for label in set(rows.labels[at]):
            by_label.setdefault(label, []).append(float(scores[at]))
    pairs: dict[frozenset[str] | str, dict[str, Any]] = {}
    for at in known[np.argsort(-near, kind="stable")].tolist():
        id, other = rows.ids[at], others.ids[places[at]]
        # Two rows are often nearest to one another: such a pair is named once.
        pair = frozenset((id, other)) if same else id
        pairs.setdefault(pair, {"id": id, "other": other, "score": float(scores[at])})
        if len(pairs) == SHOWN:
            break
    return {
        "mean": float(near.mean()),
        "quantiles": {str(share): float(np.quantile(near, share)) for share in QUANTILES},
        "alike": float((near >= ALIKE).mean()),
        "labels": {label: float(np.mean(each)) for label, each in sorted(by_label.items())},
        "nearest": list(pairs.values()),
    }
