"""Bound terms as a metric: what gives the label away in rows, and whether in gold test rows too."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from synth.metrics.bound_terms import BoundTerm, Thresholds, bound_terms, own_words, weigh
from synth.metrics.metric import Measured, MetricSettings, NotComputed, Texts
from synth.metrics.terms import terms_of


class BoundTerms(MetricSettings):
    """Words and pairs of words bound to a label, those first that gold test rows do not bind to it.

    What is bound in gold rows too is the topic; the rest may be a habit of the teacher, which a student
    learns in place of the task. Few gold rows can bind little: see how often they have a term. Words of a
    label's name are left alone.
    """

    name: ClassVar[str] = "bound_terms"

    sample: int | None = Field(20_000, ge=2)
    """Rows that are read at most."""
    min_rows: int = Field(5, ge=1)
    """Fewest rows of its label that have a term."""
    odds: float = Field(3.0, ge=1)
    """Least odds of a term among its label's rows, over those among others."""
    significance: float = Field(0.01, gt=0, lt=1)
    """Largest p of Fisher's exact test, corrected by Holm for all terms and labels tested."""
    most: int = Field(10, ge=1)
    """Terms of a label at most."""
    shown: int = Field(3, ge=0)
    """Rows of its label with a term, whose ids are told."""

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return the terms with counts, odds and p in rows and gold test rows; NotComputed with one label."""
        if any(len(labels) != 1 for labels in data.need_rows().labels):
            raise NotComputed("only rows with one label each bind terms to it, and some have several or none")
        rows, labels = single(data.rows, "rows")
        limits = Thresholds(self.min_rows, self.odds, self.significance, self.most)
        keep = {label: own_words(label) for label in labels}
        found = bound_terms(rows.texts, labels, limits, keep)
        examples = self._examples(rows, labels, found)
        told = [_told(each) | {"ids": examples[each.label, each.term]} for each in found]
        result = {"n": len(rows), "labels": len(set(labels))}
        try:
            gold, theirs = single(data.need_gold(), "gold test rows")
        except NotComputed as reason:
            return result | {"terms": _ordered(told), "gold": {"not_computed": str(reason)}}
        pairs = [(each.term, each.label) for each in found]
        for term, there in zip(told, weigh(gold.texts, theirs, pairs), strict=True):
            term["also_in_gold"] = there.p <= self.significance
            term["gold"] = {
                name: value for name, value in _told(there).items() if name not in ("term", "label")
            }
        alone = sum(not term["also_in_gold"] for term in told)
        return result | {"gold_n": len(gold), "only_in_rows": alone, "terms": _ordered(told)}

    def _examples(
        self, rows: Texts, labels: Sequence[str], found: Sequence[BoundTerm]
    ) -> dict[tuple[str, str], list[str]]:
        """Return the ids of the first rows of its label that have each term."""
        wanted: defaultdict[str, set[str]] = defaultdict(set)
        for each in found:
            wanted[each.label].add(each.term)
        ids: dict[tuple[str, str], list[str]] = {(each.label, each.term): [] for each in found}
        for id, text, label in zip(rows.ids, rows.texts, labels, strict=True):
            for term in wanted[label] & terms_of(text) if wanted[label] else ():
                having = ids[label, term]
                having.append(id)
                if len(having) >= self.shown:
                    wanted[label].discard(term)
        return {pair: having[: self.shown] for pair, having in ids.items()}


def single(texts: Texts, kind: str) -> tuple[Texts, list[str]]:
    """Return the texts that have exactly one label, and their labels; NotComputed when all have the same."""
    kept = [each for each in zip(texts.ids, texts.texts, texts.labels, strict=True) if len(each[2]) == 1]
    labels = [given[0] for _, _, given in kept]
    if len(set(labels)) < 2:
        raise NotComputed(f"{kind} with one label each have fewer than two labels: nothing to compare with")
    ids, read, given = zip(*kept, strict=True)
    return Texts(ids, read, given), labels


def _told(bound: BoundTerm) -> dict[str, Any]:
    return bound._asdict()


def _ordered(terms: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the terms first that gold rows do not bind, then the most significant."""
    return sorted(
        terms,
        key=lambda term: (
            term.get("also_in_gold", False),
            term["p"],
            -term["odds"],
            term["label"],
            term["term"],
        ),
    )
