"""Named entities: how many, how evenly they are spread, and how many of those in gold rows are there too."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log2
from typing import Any, ClassVar

import pyarrow as pa
from pydantic import Field

from synth.metrics.linguistics import Entities
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side

TYPES = (
    *("DATE", "EVENT", "FAC", "GPE", "LANGUAGE", "LAW", "LOC", "MONEY"),
    *("NORP", "ORG", "PERCENT", "PERSON", "PRODUCT", "QUANTITY", "TIME", "WORK_OF_ART"),
)
"""The model's 18 OntoNotes types without CARDINAL and ORDINAL: SynthesizRR has 16 and does not say which."""
SMOOTHING = 1e-6
"""Added to each relative frequency over the union of both sides' entities, which then are normalised."""

Counts = Mapping[str, Counter[str]]
"""For each type, how often each exact surface occurs."""


class EntityDiversity(MetricSettings):
    """Entropy, number and recall of named entities, by type (SynthesizRR, 2405.10040).

    An entity is its exact surface. The paper holds rows against gold training rows; here they are gold test
    rows. Entropy and recall grow with the number of rows: `gold_same_n` has both sides at the same number.
    TarGEN's look at bias (2310.17876) is the most frequent GPE, PERSON, NORP, EVENT and PRODUCT.
    """

    name: ClassVar[str] = "entities"

    sample: int | None = Field(8000, ge=2)
    """Rows that are read at most, and gold rows; the paper has 8,000."""
    model: str = "en_core_web_lg"
    """spaCy model: an installed package, `package:<import name>` or a folder."""
    types: tuple[str, ...] = Field(TYPES, min_length=1)
    """Types that count; by default all of OntoNotes but CARDINAL and ORDINAL."""
    top: int = Field(10, ge=0)
    """Most frequent entities of each type that are told."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Entities of rows and gold test rows."""
        read = Entities(self.model)
        return {"rows": (read,), "gold": (read,)}

    def how_many(self, side: Side) -> int | None:
        """Return how many texts of a side its features are read of."""
        return self.sample

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return counts and entropy in bits for rows and gold rows, and what rows share with gold rows."""
        read, n = Entities(self.model), len(data.need_rows(1))
        rows = data.read(read)
        found = self._counts(rows)
        result = {"n": n, "model": read.revision, **self._side(found, n)}
        try:
            theirs = data.need_gold().first(self.sample)
        except NotComputed as reason:
            return result | {part: {"not_computed": str(reason)} for part in ("gold", "against_gold")}
        gold, same = data.read(read, "gold").slice(0, len(theirs)), min(n, len(theirs))
        equal = {side: self._counts(each[:same]) for side, each in (("rows", rows), ("gold", gold))}
        return result | {
            "gold_n": len(theirs),
            "gold": self._side(self._counts(gold), len(theirs)),
            "gold_same_n": {
                "n": same,
                **{side: {"entropy": mean_entropy(each)} for side, each in equal.items()},
            },
            "against_gold": against(found, self._counts(gold)),
        }

    def _counts(self, entities: pa.Array) -> dict[str, Counter[str]]:
        flat = entities.flatten()
        pairs = zip(flat.field("type").to_pylist(), flat.field("text").to_pylist(), strict=True)
        counts: dict[str, Counter[str]] = {kind: Counter() for kind in self.types}
        for (kind, text), number in Counter(pairs).items():
            if kind in counts:
                counts[kind][text] = number
        return counts

    def _side(self, counts: Counts, rows: int) -> dict[str, Any]:
        total = sum(each.total() for each in counts.values())
        return {
            "entropy": mean_entropy(counts),
            "types_without": [kind for kind, each in counts.items() if not each],
            "total": total,
            "unique": sum(map(len, counts.values())),
            "per_row": total / rows,
            "types": {kind: self._type(each, rows) for kind, each in counts.items() if each},
        }

    def _type(self, counts: Counter[str], rows: int) -> dict[str, Any]:
        first = sorted(counts.items(), key=lambda each: (-each[1], each[0]))[: self.top]
        return {
            "entropy": entropy(counts),
            "total": counts.total(),
            "unique": len(counts),
            "per_row": counts.total() / rows,
            "top": [list(each) for each in first],
        }


def entropy(counts: Counter[Any]) -> float:
    """Return the entropy, in bits, of what is counted; it must not be empty."""
    total = counts.total()
    # Sorted, so that the sum does not depend on the order of rows.
    return max(0.0, -sum(n / total * log2(n / total) for n in sorted(counts.values())))


def mean_entropy(counts: Counts) -> float | dict[str, str]:
    """Return the unweighted mean over the types that have entities; why not, when none has."""
    found = [entropy(each) for each in counts.values() if each]
    return sum(found) / len(found) if found else {"not_computed": "no entities of these types were found"}


def against(rows: Counts, gold: Counts) -> dict[str, Any]:
    """Return recall and divergence, each type for itself and all (type, surface) pairs together.

    Types without any entity in gold rows have neither, and are named in `left_out`.
    """
    kinds = [kind for kind in gold if gold[kind]]
    pooled = [
        Counter({(kind, text): n for kind, each in side.items() for text, n in each.items()})
        for side in (rows, gold)
    ]
    return {
        **(compared(*pooled) if kinds else {"not_computed": "gold rows have no entities of these types"}),
        "types": {kind: compared(rows[kind], gold[kind]) for kind in kinds},
        "left_out": [kind for kind in gold if kind not in kinds],
    }


def compared(rows: Counter[Any], gold: Counter[Any]) -> dict[str, Any]:
    """Return what share of gold's entities rows have, unique and by count, and KL(gold‖rows) in bits."""
    both, union = rows.keys() & gold.keys(), sorted(rows.keys() | gold.keys())
    kl: float | dict[str, str] = {"not_computed": "rows have no entities of this type"}
    if rows:
        p, q = smoothed(gold, union), smoothed(rows, union)
        kl = max(0.0, sum(a * log2(a / b) for a, b in zip(p, q, strict=True)))
    return {
        "unique_recall": len(both) / len(gold),
        "weighted_recall": sum(gold[each] for each in both) / gold.total(),
        "kl": kl,
    }


def smoothed(counts: Counter[Any], union: Sequence[Any]) -> list[float]:
    """Return relative frequencies over a union, SMOOTHING added to each, then normalised."""
    raised = [counts[each] / counts.total() + SMOOTHING for each in union]
    return [each / (1 + SMOOTHING * len(union)) for each in raised]
