"""The labels of a dataset: how many rows each has, how even that is, and how far from gold test rows."""

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any, ClassVar

from synth.metrics.metric import Measured, MetricSettings, NotComputed, Texts


class LabelBalance(MetricSettings):
    """Rows per label, evenness, and the distance from the label shares of gold test rows.

    A row with several labels counts once for each; shares are of all labels given. Labels that only gold rows
    have count as labels without a row.
    """

    name: ClassVar[str] = "labels"

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return counts and shares; entropy 0 to 1; the largest label over the smallest; distance 0 to 1."""
        given, gold = counted(data.need_rows(1)), counted(data.gold)
        if not given:
            raise NotComputed("no row has a label")
        known = sorted(given.keys() | gold.keys())
        result = {
            "n": len(data.rows),
            "labels": {
                label: {"rows": given[label], "share": given[label] / given.total()} for label in known
            },
            "several": sum(len(set(labels)) > 1 for labels in data.rows.labels),
            "entropy": evenness(given, len(known)),
            "imbalance": max(given.values()) / min(given.values()),
            "without_rows": [label for label in known if not given[label]],
        }
        try:
            return result | {"gold_n": len(data.need_gold()), "gold": against(given, gold, known)}
        except NotComputed as reason:
            return result | {"gold": {"not_computed": str(reason)}}


def against(given: Counter[str], gold: Counter[str], known: Sequence[str]) -> dict[str, Any]:
    """Return what gold rows have, and half the sum of the differences of shares; NotComputed without any."""
    if not gold:
        raise NotComputed("no gold test row has a label")
    differences = (given[label] / given.total() - gold[label] / gold.total() for label in known)
    return {
        "labels": shares(gold, known),
        "entropy": evenness(gold, len(known)),
        "imbalance": max(gold.values()) / min(gold.values()),
        "distance": sum(map(abs, differences)) / 2,
    }


def shares(counts: Counter[str], known: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return for each label its rows, and their share of all labels given."""
    return {label: {"rows": counts[label], "share": counts[label] / counts.total()} for label in known}


def counted(texts: Texts) -> Counter[str]:
    """Count the rows that have each label."""
    return Counter(label for labels in texts.labels for label in dict.fromkeys(labels))


def evenness(counts: Counter[str], known: int) -> float | dict[str, str]:
    """Return the entropy of the label shares over that of so many equal shares; why not with one."""
    if known < 2:
        return {"not_computed": "there is only one label"}
    shares = [number / counts.total() for number in sorted(counts.values())]
    return max(0.0, -sum(share * log(share) for share in shares) / log(known))
