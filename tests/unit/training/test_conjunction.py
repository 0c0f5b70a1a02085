"""Conditions over the labels of students: how they are read, and how likely they are."""

from collections.abc import Mapping
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SettingsError
from training.condition import And, Condition, Literal, Not, Or, literals, truth
from training.conjunction import Evidence, exclusive_evidence, log1mexp, separate_evidence, weigh
from training.grammar import parse

STUDENTS = {
    "mood": ("positive", "negative"),
    "about_food": ("about_food", "other"),
    "mail": ("spam", "ham"),
    "news": ("Sports", "Sci/Tech", "World affairs", "other"),
}
POSITIVE, FOOD, SPAM = (
    Literal("mood", "positive"),
    Literal("about_food", "about_food"),
    Literal("mail", "spam"),
)


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("positive", POSITIVE),
        ("positive and about_food and not spam", And((POSITIVE, FOOD, Not(SPAM)))),
        ("positive or about_food and spam", Or((POSITIVE, And((FOOD, SPAM))))),
        ("(positive or about_food) and spam", And((Or((POSITIVE, FOOD)), SPAM))),
        ("not positive or spam", Or((Not(POSITIVE), SPAM))),
        ("not not not spam", Not(SPAM)),
        ("NOT Positive AND SPAM", And((Not(POSITIVE), SPAM))),
        ("mood:positive", POSITIVE),
        ("news : 'world affairs'", Literal("news", "World affairs")),
        ('"World affairs" or Sci/Tech', Or((Literal("news", "World affairs"), Literal("news", "Sci/Tech")))),
        ("news:other", Literal("news", "other")),
        ("not(spam)", Not(SPAM)),
    ],
)
def test_a_condition_is_read_as_it_is_meant(text: str, condition: Condition) -> None:
    assert parse(text, STUDENTS) == condition


def test_a_bare_student_stands_for_what_it_looks_for() -> None:
    assert parse("food", {"food": ("other", "yes")}) == Literal("food", "yes")
    assert parse("spam", {"spam": ("not_spam", "junk")}) == Literal("spam", "junk")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", 0, "is empty"),
        ("positive and", 12, "found the end"),
        ("positive and or spam", 13, "found 'or'"),
        ("positive spam", 9, "expected and, or, or the end, found 'spam'"),
        ("(positive and spam", 18, "expected )"),
        ("positive)", 8, "found ')'"),
        ("positive and 'spam", 13, "a quote is never closed"),
        ("positiv and spam", 0, "'positiv' is no label and no student; did you mean 'positive'?"),
        ("positive and mail:spma", 18, "did you mean 'spam'?; there are spam, ham"),
        ("moody:positive", 0, "'moody' is no student; did you mean 'mood'?"),
        ("positive and other", 13, "is a label of several students; write about_food:other or news:other"),
        ("mood", 0, "student 'mood' has several labels; write mood:positive or mood:negative"),
        ("not", 3, "found the end"),
    ],
)
def test_a_wrong_condition_is_shown_where_it_is_wrong(text: str, place: int, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, STUDENTS)
    told, shown, caret = str(caught.value).split("\n")
    assert message in told
    assert shown[2:] == text
    assert caret.index("^") - 2 == place


def test_deep_and_long_conditions_are_refused_or_read_without_a_crash() -> None:
    with pytest.raises(SettingsError, match="parentheses"):
        parse("(" * 200 + "spam" + ")" * 200, STUDENTS)
    with pytest.raises(SettingsError, match="characters"):
        parse("spam or " * 2000, STUDENTS)
    assert parse("not " * 2001 + "spam", STUDENTS) == Not(SPAM)


# Probabilities as small as float32 knows them, and the same distance from 1.
TINY = st.floats(min_value=1e-37, max_value=0.5)
PAIRS = st.tuples(TINY, st.booleans())
NAMES = [Literal("s", str(number)) for number in range(4)]
CONDITIONS = st.recursive(
    st.sampled_from(NAMES),
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


def known(pairs: list[tuple[float, bool]]) -> dict[Condition, Evidence]:
    """Evidence of each name, of which one side is small, and exact."""
    found: dict[Condition, Evidence] = {}
    for name, (small, holds) in zip(NAMES, pairs, strict=True):
        low, high = np.log(np.array([small])), np.log1p(-np.array([small]))
        found[name] = Evidence(high, low) if holds else Evidence(low, high)
    return found


def exactly(condition: Condition, pairs: list[tuple[float, bool]]) -> tuple[Decimal, Decimal]:
    """The probabilities that a condition holds and that it does not, with 400 digits."""
    match condition:
        case Literal():
            small, holds = pairs[NAMES.index(condition)]
            value = Decimal(small)
            return (1 - value, value) if holds else (value, 1 - value)
        case Not(of):
            holds_, fails = exactly(of, pairs)
            return fails, holds_
        case And(parts):
            product = Decimal(1)
            for part in parts:
                product *= exactly(part, pairs)[0]
            return product, 1 - product
        case Or(parts):
            product = Decimal(1)
            for part in parts:
                product *= exactly(part, pairs)[1]
            return 1 - product, product


@given(CONDITIONS, st.lists(PAIRS, min_size=4, max_size=4))
def test_the_logarithm_is_right_to_the_last_digits_near_0_and_near_1(
    condition: Condition, pairs: list[tuple[float, bool]]
) -> None:
    found = weigh(condition, known(pairs).__getitem__)
    with localcontext() as context:
        context.prec = 400
        holds, fails = (float(value.ln()) for value in exactly(condition, pairs))
    np.testing.assert_allclose([found.holds[0], found.fails[0]], [holds, fails], rtol=1e-12)


@given(CONDITIONS, CONDITIONS, st.lists(PAIRS, min_size=4, max_size=4))
def test_de_morgan_holds_to_the_bit(
    one: Condition, other: Condition, pairs: list[tuple[float, bool]]
) -> None:
    evidence = known(pairs).__getitem__
    neither = weigh(Not(Or((one, other))), evidence)
    both_not = weigh(And((Not(one), Not(other))), evidence)
    assert (neither.holds, neither.fails) == (both_not.holds, both_not.fails)
    not_both = weigh(Not(And((one, other))), evidence)
    either_not = weigh(Or((Not(one), Not(other))), evidence)
    assert (not_both.holds, not_both.fails) == (either_not.holds, either_not.fails)


@given(st.floats(min_value=-745, max_value=-1e-300))
def test_log1mexp_is_exact(value: float) -> None:
    with localcontext() as context:
        context.prec = 400
        expected = float((1 - Decimal(value).exp()).ln())
    np.testing.assert_allclose(log1mexp(np.array([value])), [expected], rtol=1e-13)


def test_certainty_and_impossibility_stay_numbers() -> None:
    never, always = np.array([-np.inf]), np.array([0.0])
    sure, no = Evidence(always, never), Evidence(never, always)
    both = weigh(And((NAMES[0], NAMES[1])), {NAMES[0]: sure, NAMES[1]: no}.__getitem__)
    assert (both.holds[0], both.fails[0]) == (-np.inf, 0.0)
    either = weigh(Or((NAMES[0], NAMES[1])), {NAMES[0]: sure, NAMES[1]: no}.__getitem__)
    assert (either.holds[0], either.fails[0]) == (0.0, -np.inf)


def test_rows_that_are_nearly_sure_keep_their_order() -> None:
    # As float32, both first labels are 1: what the others have is all that tells the rows apart.
    rows = np.array([[1.0, 3e-12, 1e-12], [1.0, 1e-20, 2e-30], [0.25, 0.5, 0.25]], dtype=np.float32)
    found = exclusive_evidence(rows, 0)
    np.testing.assert_allclose(found.fails, np.log([4e-12, 1e-20, 0.75]), rtol=1e-6)
    assert found.holds[0] < found.holds[1] < 0
    np.testing.assert_allclose(found.holds[:2], [-4e-12, -1e-20], rtol=1e-6)


def test_labels_that_go_together_are_judged_apart() -> None:
    found = separate_evidence(np.array([[0.9, 0.8], [0.1, 0.8]]), 1)
    np.testing.assert_allclose(np.exp(found.holds), [0.8, 0.8])
    np.testing.assert_allclose(np.exp(found.fails), [0.2, 0.2])


@pytest.mark.parametrize(
    ("gold", "verdict"),
    [
        ({POSITIVE: True, FOOD: True, SPAM: False}, True),
        ({POSITIVE: True, FOOD: True, SPAM: True}, False),
        ({POSITIVE: False, FOOD: True, SPAM: False}, False),
        # One label would refute it; but rows like this could never be right, so they do not count.
        ({POSITIVE: False}, None),
        ({POSITIVE: True, FOOD: True}, None),
        ({}, None),
    ],
)
def test_truth_is_told_where_every_label_is_known(gold: Mapping[Literal, bool], verdict: bool | None) -> None:
    condition = parse("positive and about_food and not spam", STUDENTS)
    assert truth(condition, gold.get) is verdict
    assert truth(Not(condition), gold.get) is (None if verdict is None else not verdict)


def test_either_is_true_when_one_is() -> None:
    condition = parse("positive or spam", STUDENTS)
    assert truth(condition, {SPAM: True, POSITIVE: False}.get) is True
    assert truth(condition, {SPAM: False, POSITIVE: False}.get) is False
    assert truth(condition, {SPAM: True}.get) is None
    assert list(literals(condition)) == [POSITIVE, SPAM]
