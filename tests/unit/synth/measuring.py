"""What a metric is given, with features read on the spot."""

from typing import Any

import pyarrow as pa

from synth.metrics.metric import Feature, Measured, MetricSettings, Side, Texts, drawn


def some(texts: list[str], labels: list[str] | None = None) -> Texts:
    """Texts with ids by their places, and one label each."""
    given = labels if labels is not None else ["a"] * len(texts)
    return drawn([f"{place:06d}" for place in range(len(texts))], texts, [(label,) for label in given])


def data(rows: Texts, gold: Texts | None = None, seeds: Texts | None = None) -> Measured:
    sides = {"rows": rows, "gold": gold or some([]), "seeds": seeds or some([])}

    def reading(feature: Feature, side: Side) -> pa.Array:
        return feature.read(list(sides[side].texts))

    return Measured(sides["rows"], sides["gold"], sides["seeds"], reading)


def measure(
    metric: MetricSettings, rows: Texts, gold: Texts | None = None, seeds: Texts | None = None
) -> Any:
    """The figures of a metric, of the sample it asks for."""
    return metric.measure(data(rows.first(metric.sample), gold, seeds))
