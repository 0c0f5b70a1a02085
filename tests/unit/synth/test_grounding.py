"""Grounding, on hand-made rows."""

import pytest

from synth.metrics.grounding import Grounding, grounding

RIVERS = [
    "The Tree River is a river in Nunavut. It flows into Coronation Gulf.",
    "The Spree is a river in Saxony. It flows through Berlin since 1237.",
    "The Ob is a river in Siberia. It is long and flows north.",
]


def test_rows_that_keep_their_names_are_grounded_in_their_own_document_only() -> None:
    texts = ["A river of Nunavut.", "Berlin lies on it.", "Deep in siberia a river flows."]
    assert grounding(texts, RIVERS, ["river"] * 3, 1) == Grounding(own=1.0, random=0.0, rows=3)


def test_generic_rows_are_grounded_nowhere() -> None:
    texts = ["It is a river. It flows."] * 3
    assert grounding(texts, RIVERS, ["river"] * 3, 1) == Grounding(own=0.0, random=0.0, rows=3)


def test_rows_that_name_everything_are_grounded_everywhere() -> None:
    texts = ["From Nunavut to Berlin and Siberia."] * 3
    assert grounding(texts, RIVERS, ["river"] * 3, 1) == Grounding(own=1.0, random=1.0, rows=3)


def test_a_number_counts_and_a_lone_digit_does_not() -> None:
    documents = ["It is of 1237.", "It is of 5."]
    measured = grounding(["made in 1237", "made in 5"], documents, ["x", "x"], 1)
    assert measured == Grounding(own=0.5, random=0.0, rows=2)


def test_the_random_document_has_the_same_label_and_is_another_one() -> None:
    documents = ["about Anna", "about Bert", "about Anna", "about Carl"]
    measured = grounding(["Anna", "Bert", "Bert", "Carl"], documents, ["a", "a", "a", "b"], 3)
    assert measured is not None
    # The only Carl document has no other of its label; the third row speaks of the other document.
    assert measured.rows == 3
    assert measured.own == pytest.approx(2 / 3)
    assert measured.random == pytest.approx(1 / 3)


def test_names_are_distinctive_a_little_longer_than_words() -> None:
    def measure(phrase: str) -> float:
        documents = [f"tale number{n} {phrase if n < 2 else 'other'} end" for n in range(40)]
        measured = grounding(["we saw it ouch quaint"] * 40, documents, ["x"] * 40, 0)
        assert measured is not None
        return measured.own

    assert measure("quaint") == 0.0
    assert measure("Quaint") == pytest.approx(2 / 40)


def test_a_capital_at_the_start_of_a_sentence_makes_no_name() -> None:
    documents = [f"tale number{n}. {'Quaint' if n < 2 else 'Other'} end" for n in range(40)]
    measured = grounding(["quaint"] * 40, documents, ["x"] * 40, 0)
    assert measured == Grounding(own=0.0, random=0.0, rows=40)


def test_nothing_to_compare_with_gives_none() -> None:
    assert grounding([], [], [], 1) is None
    assert grounding(["a", "b"], ["", "Anna"], ["x", "x"], 1) is None


def test_the_same_seed_gives_the_same_measure_and_lengths_must_agree() -> None:
    texts = [f"Nunavut or Berlin {n}" for n in range(30)]
    rows = [RIVERS[n % 3] for n in range(30)]
    assert grounding(texts, rows, ["r"] * 30, 7) == grounding(texts, rows, ["r"] * 30, 7)
    with pytest.raises(ValueError, match="zip"):
        grounding(texts, rows[:5], ["r"] * 30, 7)
