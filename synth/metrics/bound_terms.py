"""Bound terms: words and pairs of words that stand in the rows of one label far more often than in others.

A significance test cannot tell topic from bias. That `goal` is bound to sport is what sport is about; that
`only` is bound to the answer no is a habit of whoever wrote the rows, and a student will learn it in place of
the task. So words of a label's own name and description are left alone, as is what the user lists; of the
rest the user decides: by reading the list, by keeping terms, or by naming terms instead of finding them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from synth.metrics.terms import MEANINGLESS, says, stem, terms_of, words_of


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a term must reach to be bound to a label."""

    min_rows: int = 5
    """Rows of the label that have it."""
    odds: float = 3.0
    """Odds of having it among the label's rows, over those among others; a half is added to each count."""
    significance: float = 0.01
    """Largest p of Fisher's exact test, one-sided, corrected by Holm for all terms and labels tested."""
    most: int = 10
    """Terms of a label at most, the most significant first."""


class BoundTerm(NamedTuple):
    """A term, the label it is bound to, and how: rows of the label and of others that have it."""

    term: str
    label: str
    inside: int
    outside: int
    odds: float
    p: float
    """Corrected for the number of tests."""


def bound_terms(
    texts: Sequence[str],
    labels: Sequence[str],
    thresholds: Thresholds | None = None,
    keep: Mapping[str, Collection[str]] | None = None,
) -> list[BoundTerm]:
    """Find the words and pairs of words bound to a label; texts and label names run in parallel.

    keep names, for each label, terms that are left alone: with their plurals, and with pairs that have such a
    word in them. A pair is left out when one of its words is bound alone. Labels come in order of appearance,
    their most significant terms first. A row counts once for a term however often it has it. The terms tested
    are those that at least `min_rows` rows have, whatever their labels, and that say something.
    """
    import numpy as np

    from synth.metrics.fisher import holm, log_p, odds_ratio

    limits, kept = thresholds or Thresholds(), keep or {}
    counted, sizes = _count(texts, labels)
    totals = Counter[str]()
    for each in counted.values():
        totals.update(each)
    tested = sorted(term for term, rows in totals.items() if rows >= limits.min_rows and says(term))
    cells = [(term, label) for label in sizes for term in tested if term in counted[label]]
    if not cells:
        return []
    inside = np.array([counted[label][term] for term, label in cells])
    total = np.array([totals[term] for term, _ in cells])
    group = np.array([sizes[label] for _, label in cells])
    logs = log_p(inside, total, group, len(texts))
    # Terms that no row of a label has are tested for it too: their p is 1.
    p = holm(logs, len(tested) * len(sizes))
    odds = odds_ratio(inside, total, group, len(texts))
    reached = (inside >= limits.min_rows) & (odds >= limits.odds) & (p <= limits.significance)
    found: dict[str, list[BoundTerm]] = {label: [] for label in sizes}
    chosen = np.flatnonzero(reached)
    for at in chosen[np.argsort(logs[chosen], kind="stable")].tolist():
        (term, label), rows = cells[at], int(inside[at])
        outside = int(total[at]) - rows
        found[label].append(BoundTerm(term, label, rows, outside, float(odds[at]), float(p[at])))
    return [
        each for label, bound in found.items() for each in _cleared(bound, kept.get(label, ()))[: limits.most]
    ]


def weigh(texts: Sequence[str], labels: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[BoundTerm]:
    """Return how strongly (term, label) pairs are bound, whatever the thresholds, each pair once.

    p is corrected for the number of pairs; a label that has no rows binds nothing.
    """
    import numpy as np

    from synth.metrics.fisher import holm, log_p, odds_ratio

    wanted = list(dict.fromkeys(pairs))
    counted, sizes = _count(texts, labels, {len(words_of(term)) for term, _ in wanted})
    inside = np.array([counted[label][term] if label in sizes else 0 for term, label in wanted], np.int64)
    total = np.array([sum(each[term] for each in counted.values()) for term, _ in wanted], np.int64)
    group = np.array([sizes.get(label, 0) for _, label in wanted], np.int64)
    p = holm(log_p(inside, total, group, len(texts)), len(wanted))
    odds = odds_ratio(inside, total, group, len(texts))
    counts = zip(inside.tolist(), (total - inside).tolist(), odds.tolist(), p.tolist(), strict=True)
    return [BoundTerm(*pair, *numbers) for pair, numbers in zip(wanted, counts, strict=True)]


def own_words(*phrases: str) -> frozenset[str]:
    """Return the words of a label's name and description that say something, to be kept."""
    return frozenset(word for phrase in phrases for word in words_of(phrase)) - MEANINGLESS


def _count(
    texts: Sequence[str], labels: Sequence[str], lengths: Collection[int] = (1, 2)
) -> tuple[dict[str, Counter[str]], dict[str, int]]:
    """Return, for each label, the rows that have each term, and its rows."""
    counted: dict[str, Counter[str]] = {}
    for text, label in zip(texts, labels, strict=True):
        counted.setdefault(label, Counter()).update(terms_of(text, lengths))
    sizes = Counter(labels)
    return counted, {label: sizes[label] for label in counted}


def _cleared(bound: Sequence[BoundTerm], keep: Collection[str]) -> list[BoundTerm]:
    """Leave out what is kept, and pairs that are bound only by one of their words."""
    kept, alone = {stem(term) for term in keep}, {each.term for each in bound}
    return [
        each
        for each in bound
        if stem(each.term) not in kept
        and not any(
            word != each.term and (word in alone or stem(word) in kept) for word in words_of(each.term)
        )
    ]
