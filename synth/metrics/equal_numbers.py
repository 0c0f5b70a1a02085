"""Gold beside rows for figures that depend on the number of texts: of all gold rows, and of equal numbers."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from synth.metrics.metric import Feature, Measured, NotComputed


def beside_gold(
    data: Measured, feature: Feature, figures: Callable[[pa.Array], dict[str, Any]]
) -> dict[str, Any]:
    """Return `gold`, `gold_n` and `gold_same_n`: the figures of gold, and of as many rows as gold rows.

    figures is given the feature's values, and may raise NotComputed. `gold_same_n` has the number of texts as
    `n`, and the figures of the first so many of `rows` and of `gold`. Where gold cannot be measured, `gold`
    has the reason as `not_computed`, and the rest is not there.
    """
    try:
        count = len(data.need_gold())
        gold, rows = data.read(feature, "gold"), data.read(feature)
        same = min(count, len(rows))
        return {
            "gold": figures(gold),
            "gold_n": count,
            "gold_same_n": {"n": same, "rows": figures(rows[:same]), "gold": figures(gold[:same])},
        }
    except NotComputed as reason:
        return {"gold": {"not_computed": str(reason)}}
