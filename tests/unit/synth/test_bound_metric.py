"""Bound terms as a metric: what is told, and what gold rows say of it."""

import json
import random

import pytest

from synth.metrics.bound import BoundTerms
from synth.metrics.bound_terms import Thresholds, bound_terms, own_words
from synth.metrics.metric import NotComputed, Texts, drawn
from tests.unit.synth.measuring import measure, some


def texts(habit: str, count: int = 60, seed: int = 0) -> tuple[list[str], list[str]]:
    """Rows of two labels: `goal` is what sport is about, the habit is the teacher's; science has none."""
    rng = random.Random(seed)
    labels = [label for label in ("sport", "science") for _ in range(count)]
    words = [f"w{number}" for number in range(40)]
    made = []
    for label in labels:
        said = rng.choices(words, k=6)
        if label == "sport" and rng.random() < 0.7:
            said.append("goal")
        if label == "sport" and habit and rng.random() < 0.5:
            said.append(habit)
        rng.shuffle(said)
        made.append(", ".join(said))
    return made, labels


def test_the_teachers_habit_comes_first_and_the_topic_is_marked() -> None:
    result = measure(BoundTerms(), some(*texts("truly")), some(*texts("", seed=1)))
    told = {term["term"]: term for term in result["terms"]}
    assert [term["term"] for term in result["terms"]] == ["truly", "goal"]
    assert (told["truly"]["also_in_gold"], told["goal"]["also_in_gold"]) == (False, True)
    assert told["truly"]["gold"]["inside"] == told["truly"]["gold"]["outside"] == 0
    assert told["goal"]["gold"]["inside"] > 30
    assert result["only_in_rows"] == 1
    assert (result["n"], result["gold_n"], result["labels"]) == (120, 120, 2)
    json.dumps(result, allow_nan=False)


def test_the_terms_are_those_of_the_function_and_the_examples_have_them() -> None:
    rows = some(*texts("truly"))
    result = measure(BoundTerms(significance=0.2, odds=1.2, min_rows=3), rows)
    labels = [each[0] for each in rows.labels]
    keep = {label: own_words(label) for label in labels}
    wanted = bound_terms(rows.texts, labels, Thresholds(3, 1.2, 0.2, 10), keep)
    assert len(wanted) >= 2
    assert {(each["term"], each["label"], each["p"]) for each in result["terms"]} == {
        (each.term, each.label, each.p) for each in wanted
    }
    for term in result["terms"]:
        assert len(term["ids"]) == 3
        for id in term["ids"]:
            place = rows.ids.index(id)
            assert term["term"] in rows.texts[place].split(", ")
            assert labels[place] == term["label"]


def test_without_gold_rows_no_term_is_said_to_be_the_teachers_alone() -> None:
    result = measure(BoundTerms(), some(*texts("truly")))
    assert "task.test" in result["gold"]["not_computed"]
    assert all("also_in_gold" not in term and "gold" not in term for term in result["terms"])
    assert "only_in_rows" not in result


def test_gold_rows_of_one_label_are_no_comparison() -> None:
    result = measure(BoundTerms(), some(*texts("truly")), some(["goal"] * 9, ["sport"] * 9))
    assert "gold test rows" in result["gold"]["not_computed"]


def test_of_gold_rows_those_with_several_labels_are_left_out() -> None:
    made, labels = texts("", seed=1)
    given = [*[(label,) for label in labels], ("sport", "science")]
    gold = drawn([str(place) for place in range(len(given))], [*made, "truly"], given)
    result = measure(BoundTerms(), some(*texts("truly")), gold)
    assert result["gold_n"] == 120
    assert result["terms"][0]["gold"]["outside"] == 0


def test_the_labels_own_name_and_shown_rows_are_settings_of_no_figure() -> None:
    made, labels = texts("sport")
    assert [term["term"] for term in measure(BoundTerms(shown=0), some(made, labels))["terms"]] == ["goal"]
    assert measure(BoundTerms(shown=0), some(made, labels))["terms"][0]["ids"] == []


def test_rows_with_nothing_bound_have_an_empty_list() -> None:
    rows = some([f"alike {number % 7}" for number in range(40)], [*"ab"] * 20)
    result = measure(BoundTerms(), rows, rows)
    assert (result["terms"], result["only_in_rows"]) == ([], 0)
    empty = some(["", "👍", "", "👍"], [*"aabb"])
    assert measure(BoundTerms(), empty, empty)["terms"] == []


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (some(["x", "y"], ["a", "a"]), "fewer than two labels"),
        (Texts(("1", "2"), ("x", "y"), (("a",), ("a", "b"))), "one label each"),
        (Texts(("1", "2"), ("x", "y"), (("a",), ())), "one label each"),
        (some(["x"]), "needs 2 rows"),
        (some([]), "needs 2 rows"),
    ],
)
def test_what_cannot_be_compared_is_refused(rows: Texts, reason: str) -> None:
    with pytest.raises(NotComputed, match=reason):
        measure(BoundTerms(), rows)


def test_the_order_of_rows_does_not_matter() -> None:
    made, labels = texts("truly")
    ids = [str(place) for place in range(len(made))]
    mixed = random.Random(3).sample(range(len(made)), len(made))
    rows = [
        drawn([ids[at] for at in order], [made[at] for at in order], [(labels[at],) for at in order])
        for order in (range(len(made)), mixed)
    ]
    assert measure(BoundTerms(), rows[0], rows[1]) == measure(BoundTerms(), rows[1], rows[0])
