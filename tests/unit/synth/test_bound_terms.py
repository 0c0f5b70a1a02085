"""Bound terms: what is counted, tested, corrected and left alone, against slow references."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import fisher_exact

from synth.metrics.bound_terms import BoundTerm, Thresholds, bound_terms, own_words, weigh
from synth.metrics.fisher import holm, log_p, odds_ratio
from synth.metrics.terms import as_term, likeness, says, stem, terms_in, terms_of

WORDS = [f"w{number}" for number in range(30)]


def slow_p(inside: int, total: int, group: int, rows: int) -> float:
    table = [[inside, total - inside], [group - inside, rows - group - total + inside]]
    return float(fisher_exact(table, alternative="greater").pvalue)


def slow_holm(p: Sequence[float]) -> list[float]:
    order = sorted(range(len(p)), key=lambda at: p[at])
    corrected = dict[int, float]()
    for rank, at in enumerate(order):
        before = corrected[order[rank - 1]] if rank else 0.0
        corrected[at] = max(before, min(1.0, (len(p) - rank) * p[at]))
    return [corrected[at] for at in range(len(p))]


def found(*texts_of: Sequence[str], keep: Sequence[str] = (), **limits: Any) -> list[tuple[str, str]]:
    """Return the (term, label) pairs bound in texts of the labels a, b, c…"""
    texts = [text for texts in texts_of for text in texts]
    labels = [chr(ord("a") + at) for at, texts in enumerate(texts_of) for _ in texts]
    bound = bound_terms(texts, labels, Thresholds(**limits), {"a": keep})
    return [(each.term, each.label) for each in bound]


def test_p_is_that_of_the_exact_test() -> None:
    rng, tables = random.Random(0), []
    for rows in (1, 2, 7, 60, 3000):
        for _ in range(80):
            total, group = rng.randint(0, rows), rng.randint(0, rows)
            least = max(0, total + group - rows)
            tables.append((rng.randint(least, min(total, group)), total, group, rows))
    for rows in {table[3] for table in tables}:
        these = np.array([table[:3] for table in tables if table[3] == rows])
        got = np.exp(log_p(these[:, 0], these[:, 1], these[:, 2], rows))
        wanted = [slow_p(int(k), int(total), int(group), rows) for k, total, group in these]
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-300)


def test_p_too_small_for_a_number_still_has_a_logarithm() -> None:
    (log,) = log_p(np.array([5000]), np.array([5000]), np.array([5000]), 10_000)
    assert log == pytest.approx(-6926.7, abs=0.5)


def test_holm_corrects_step_by_step_and_counts_tests_that_are_not_given() -> None:
    rng = random.Random(1)
    p = [rng.random() ** 6 for _ in range(50)] + [0.001, 0.001]
    np.testing.assert_allclose(holm(np.log(p), 52), slow_holm(p))
    np.testing.assert_allclose(holm(np.log(p), 90), slow_holm([*p, *[1.0] * 38])[:52])


def test_odds_have_a_half_in_each_count_and_need_two_sides() -> None:
    got = odds_ratio(np.array([9, 0, 3]), np.array([10, 0, 3]), np.array([20, 0, 50]), 50)
    assert got.tolist() == pytest.approx([9.5 * 29.5 / (1.5 * 11.5), 1.0, 1.0])


def reference(texts: Sequence[str], labels: Sequence[str], limits: Thresholds) -> set[BoundTerm]:
    """Find bound terms the slow way; no pairs with bound words are left out, nothing is kept."""
    rows = [terms_of(text) for text in texts]
    tested = [t for t in set().union(*rows) if sum(t in row for row in rows) >= limits.min_rows and says(t)]
    cells = [(term, label) for term in tested for label in dict.fromkeys(labels)]
    made = []
    for term, label in cells:
        inside = sum(term in row and mine == label for row, mine in zip(rows, labels, strict=True))
        total, group = sum(term in row for row in rows), labels.count(label)
        outside, rest = total - inside, len(rows) - group - total + inside
        odds = (inside + 0.5) * (rest + 0.5) / ((outside + 0.5) * (group - inside + 0.5))
        made.append((term, label, inside, outside, odds, slow_p(inside, total, group, len(rows))))
    corrected = slow_holm([each[5] for each in made])
    return {
        BoundTerm(*each[:4], round(each[4], 6), round(p, 12))
        for each, p in zip(made, corrected, strict=True)
        if each[2] >= limits.min_rows and each[4] >= limits.odds and p <= limits.significance
    }


@pytest.mark.parametrize("seed", range(4))
def test_what_is_found_is_what_the_slow_way_finds(seed: int) -> None:
    rng = random.Random(seed)
    labels = [rng.choice("aabc") for _ in range(150)]
    texts = []
    for label in labels:
        words = rng.choices(WORDS, k=6)
        # Some words lean to one label, more or less.
        words += [f"lean{at}" for at in range(8) if rng.random() < (0.1 + 0.08 * at if label == "a" else 0.1)]
        rng.shuffle(words)
        texts.append(" ".join(words))
    limits = Thresholds(min_rows=4, odds=1.5, significance=0.05, most=1000)
    wanted = reference(texts, labels, limits)
    alone = {(each.term, each.label) for each in wanted if " " not in each.term}
    wanted = {
        each
        for each in wanted
        if " " not in each.term or not any((word, each.label) in alone for word in each.term.split())
    }
    got = bound_terms(texts, labels, limits)
    assert {each._replace(odds=round(each.odds, 6), p=round(each.p, 12)) for each in got} == wanted
    assert len(wanted) >= 3


def test_a_planted_word_and_a_planted_pair_are_found_with_their_counts() -> None:
    texts = [f"Only item {n} is here." for n in range(20)] + [f"Some item {n} is here." for n in range(20)]
    (only, some) = bound_terms(texts, ["no"] * 20 + ["yes"] * 20)
    assert (only.term, only.label, only.inside, only.outside) == ("only", "no", 20, 0)
    assert (some.term, some.label) == ("some", "yes")
    assert only.p < 1e-8
    assert only.odds == pytest.approx(41 * 41)
    # Both words are as frequent with one label as with the other; side by side they are not.
    mixed = [f"red {n} wine. old {n} town." for n in range(20)]
    assert found([f"{text} red town" for text in mixed], [f"{text} town red" for text in mixed]) == [
        ("red town", "a"),
        ("town red", "b"),
    ]


def test_words_that_say_nothing_alone_are_found_in_pairs_only() -> None:
    here, there = [f"x{n} the same" for n in range(12)], [f"x{n} the other" for n in range(12)]
    assert found(here, there) == [("same", "a"), ("other", "b")]
    # `about` and `the` alone, or both together, could not be done without.
    assert found([f"x{n} about the" for n in range(12)], [f"y{n}" for n in range(12)]) == []
    assert found([f"x{n} was not" for n in range(12)], [f"y{n} was" for n in range(12)]) == [("not", "a")]


def test_own_words_kept_words_their_plurals_and_their_pairs_are_left_alone() -> None:
    texts, others = [f"goals by keepers {n} oddly" for n in range(12)], [f"shares {n}" for n in range(12)]
    assert found(texts, others)[:3] == [("goals", "a"), ("keepers", "a"), ("oddly", "a")]
    kept = own_words("Sport", "a match with a goal in it")
    assert kept == {"sport", "match", "goal"}
    assert ("goals", "a") not in found(texts, others, keep=[*kept])
    assert [term for term, label in found(texts, others, keep=[*kept, "keeper"]) if label == "a"] == ["oddly"]
    # What is kept for one label is not kept for another.
    assert ("shares", "b") in found(texts, others, keep=["shares"])


ODDS = 12.5 * 23.5 / (1.5 * 12.5)
P = 6 * slow_p(12, 13, 24, 48)
"""Of one of six tests: a word, another that all rows have, and the pair, each for two labels."""


@pytest.mark.parametrize(
    ("limits", "bound"),
    [
        ({}, True),
        ({"min_rows": 12}, True),
        ({"min_rows": 13}, False),
        ({"odds": ODDS - 0.01}, True),
        ({"odds": ODDS + 0.01}, False),
        ({"significance": P * 1.001}, True),
        ({"significance": P * 0.999}, False),
    ],
)
def test_each_threshold_decides_by_itself(limits: dict[str, Any], bound: bool) -> None:
    here, there = ["odd word"] * 12 + ["word"] * 12, ["odd word"] + ["word"] * 23
    assert (("odd", "a") in found(here, there, **limits)) is bound


def test_the_most_significant_terms_come_first_and_only_so_many() -> None:
    here = [f"one {'two' if n < 15 else ''} {'three' if n < 10 else ''} z{n}" for n in range(20)]
    there = [f"q{n}" for n in range(20)]
    terms = [term for term, _ in found(here, there)]
    assert terms == ["one", "two", "three"]
    assert [term for term, _ in found(here, there, most=2)] == ["one", "two"]


def test_rows_without_a_pattern_seldom_show_one() -> None:
    rng, wrong = random.Random(5), 0
    for _ in range(40):
        texts = [" ".join(rng.choices(WORDS, k=12)) for _ in range(120)]
        labels = [rng.choice("ab") for _ in texts]
        wrong += bool(bound_terms(texts, labels, Thresholds(min_rows=3, odds=1.0, significance=0.05)))
    # Two of forty are to be expected at most; six or more have a probability below two per cent.
    assert wrong < 6


def test_nothing_is_bound_without_rows_or_with_one_label() -> None:
    assert bound_terms([], []) == []
    assert bound_terms(["a word"] * 20, ["a"] * 20) == []
    with pytest.raises(ValueError, match=r"shorter|longer"):
        bound_terms(["a"], [])


def test_given_terms_are_weighed_whatever_the_thresholds() -> None:
    texts, labels = ["by the way yes", "By the way, no", "no", "no"], ["a", "a", "b", "b"]
    pairs = [("by the way", "a"), ("no", "b"), ("by the way", "a"), ("gone", "a"), ("no", "c")]
    made = weigh(texts, labels, pairs)
    assert [(each.term, each.label, each.inside, each.outside) for each in made] == [
        ("by the way", "a", 2, 0),
        ("no", "b", 2, 1),
        ("gone", "a", 0, 0),
        ("no", "c", 0, 3),
    ]
    wanted = slow_holm([slow_p(2, 2, 2, 4), slow_p(2, 3, 2, 4), 1.0, 1.0])
    assert [each.p for each in made] == pytest.approx(wanted)
    assert weigh([], [], pairs[:1])[0].p == 1.0
    assert weigh(texts, labels, []) == []


def test_terms_are_whole_words_in_lower_case_and_do_not_reach_over_punctuation() -> None:
    text = "The U.S. team’s well-known “Goal”, says Dr. Who: not ONLY 3.5 goals (of 'ten')..."
    words = {term for term in terms_of(text) if " " not in term}
    assert words == {"the", "u.s", "team's", "well-known", "goal", "says", "dr", "who", "not", "only", "3.5",
                     "goals", "of", "ten"}  # fmt: skip
    assert terms_in(text, ["goal", "not only", "goal says", "only 3.5 goals", "go", "u.s team's"]) == [
        "goal",
        "not only",
        "only 3.5 goals",
    ]
    assert terms_in("Straße", ["strasse"]) == ["strasse"]
    assert as_term("  Not\n ONLY! ") == "not only"
    assert as_term("?!") == ""
    assert (stem("stories"), stem("goals"), stem("glass"), stem("bus"), stem("team's")) == (
        ("story", "goal", "glass", "bus", "team")
    )


def test_scripts_without_spaces_are_read_sign_by_sign() -> None:
    assert terms_of("足球队，赢") == {"足", "球", "队", "赢", "足球", "球队"}
    assert terms_in("我爱足球队", ["足球", "篮球", "足球队"]) == ["足球", "足球队"]
    assert as_term("足球") == "足球"
    bound = found([f"足球{n}" for n in range(12)], [f"股票{n}" for n in range(12)])
    assert ("足", "a") in bound
    assert terms_of("हिन्दी भाषा") == {"हिन्दी", "भाषा", "हिन्दी भाषा"}


def test_likeness_is_the_share_of_saying_words_that_stay() -> None:
    original = "The team wins only the cup of the year"
    assert likeness("A cup for a TEAM.", original) == 2 / 5
    assert likeness("Cups of the teams", original, ["only"]) == 2 / 4
    assert likeness("The of", original) == 0.0
    assert likeness("", "the of") == 1.0
