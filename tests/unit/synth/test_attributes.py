"""Attributes: what a user gives of them, what the teacher is asked for, and what stays of its replies."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cluster.errors import SettingsError
from synth.attributes import (
    AttributeSettings,
    Dimension,
    Value,
    attribute_table,
    kept_values,
    similar_table,
)
from synth.inquiry import Inquiry, Wanted
from synth.records import Reply, Sampling
from tests.unit.synth.method_desk import Teacher, headlines

LABELS = {"sport": "a match", "trade": "companies", "arts": "music and film", "war": "armies"}
TOPIC = Dimension("sub_topic", "what it is about", by_label=True)
STYLE = Dimension("style")


def inquiry(answer: Callable[[str], str | Reply], **wanted: Any) -> tuple[Inquiry, Teacher]:
    given = {"dimensions": 3, "values": 3, "similar": 2, "drops": 2, "attempts": 2, "raw": False} | wanted
    given.setdefault("sampling", Sampling(0.7, 0.95, 600))
    teacher = Teacher(answer)
    return Inquiry(headlines(0, LABELS), Wanted(**given), teacher.generate), teacher


def counted(asked: Inquiry, stage: str) -> tuple[int, int]:
    """Replies, and those that could be read."""
    return asked.stages[stage].asked, asked.stages[stage].got


def proposal(*names: str, **changes: Any) -> str:
    each = {"what": "something", "differs_by_label": True}
    return json.dumps({"attributes": [{"name": name} | each | changes for name in names]})


def test_proposed_dimensions_are_read_without_those_that_are_fixed() -> None:
    reply = (
        f"Here you are:\n{proposal('Style', 'style ', 'Length', 'label', '--', 'place', 'time')}\nGood luck!"
    )
    asked, teacher = inquiry(lambda prompt: reply, dimensions=4)
    found = asyncio.run(asked.dimensions(["length"]))
    assert found == [Dimension(name, "something", True) for name in ("Style", "place", "time")]
    assert counted(asked, "dimensions") == (1, 1)
    ((_, sampling),) = teacher.asked
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.7, 0.95, 600)
    assert sampling.structure is not None and "differs_by_label" in str(sampling.structure.json_schema)


def test_no_more_dimensions_are_taken_than_are_wanted() -> None:
    asked, _ = inquiry(lambda prompt: proposal("place", "time", "tone", "depth"))
    assert [each.name for each in asyncio.run(asked.dimensions([]))] == ["place", "time", "tone"]


@pytest.mark.parametrize(
    "reply", ["", "place, time", '{"attributes": []}', proposal("x", differs_by_label=[])]
)
def test_a_proposal_that_cannot_be_read_is_counted(reply: str) -> None:
    asked, _ = inquiry(lambda prompt: reply)
    assert asyncio.run(asked.dimensions([])) == []
    assert counted(asked, "dimensions") == (2, 0)


def test_similar_labels_are_read_by_name_or_phrase() -> None:
    asked, teacher = inquiry(lambda prompt: "1. War: armies\n2. nothing such\n3. music and film\n4. trade")
    assert asyncio.run(asked.of_label([], "sport")) == (["war", "arts"], [])
    assert counted(asked, "similar") == (1, 1)
    (prompt,) = teacher.prompts
    assert "- war: armies" in prompt and "- sport" not in prompt


def test_labels_in_numbers_are_read_too() -> None:
    teacher = Teacher(lambda prompt: "1. 2\n2. 0: bad")
    task = headlines(0, {"0": "bad", "1": "good", "2": "in between"})
    asked = Inquiry(task, Wanted(1, 1, 2, 1, 1, Sampling(), False), teacher.generate)
    assert asyncio.run(asked.of_label([], "1"))[0] == ["2", "0"]


def test_a_list_that_names_no_label_is_asked_for_again_and_in_the_end_left_out() -> None:
    asked, teacher = inquiry(lambda prompt: "1. cats\n2. dogs")
    assert asyncio.run(asked.of_label([], "sport"))[0] == []
    assert len(teacher.asked) == 2
    assert counted(asked, "similar") == (2, 0)


@pytest.mark.parametrize(("similar", "found"), [(5, ["trade"]), (0, [])])
def test_of_two_labels_none_is_asked_about(similar: int, found: list[str]) -> None:
    teacher = Teacher(lambda prompt: "1. trade")
    asked = Inquiry(headlines(0), Wanted(1, 1, similar, 1, 1, Sampling(), False), teacher.generate)
    assert asyncio.run(asked.of_label([], "sport")) == (found, [])
    assert teacher.asked == []


def test_values_are_asked_for_with_what_they_shall_not_have_to_do_with() -> None:
    asked, teacher = inquiry(lambda prompt: "1. cup finals\n2. Cup finals\n3. transfers\n4. a\n5. b")
    values = asyncio.run(asked.values(TOPIC, "sport", ["arts", "war"]))
    assert values == [Value("sport", "sub_topic", each) for each in ("cup finals", "transfers", "a")]
    assert counted(asked, "values") == (1, 1)
    (prompt,) = teacher.prompts
    assert "sub topic (what it is about)" in prompt and "music and film; armies" in prompt


def test_values_for_all_labels_are_asked_for_without_any() -> None:
    asked, teacher = inquiry(lambda prompt: "1. dry\n2. lively")
    assert asyncio.run(asked.values(STYLE, None, ())) == [Value(None, "style", v) for v in ("dry", "lively")]
    assert "about" not in teacher.prompts[0].split("differ in their")[0].split("\n")[-1]


def test_a_list_that_falls_short_of_half_is_asked_for_again() -> None:
    replies = iter(["1. dry\n2.\n3. 4.", "1. warm\n2. Style\n3. 25\n4. ### 4", "1. cold"])
    asked, _ = inquiry(lambda prompt: next(replies), values=5, attempts=3)
    values = [value.value for value in asyncio.run(asked.values(STYLE, None, ()))]
    assert values == ["dry", "warm", "25"]
    assert counted(asked, "values") == (2, 2)


def test_a_list_is_asked_for_until_there_is_one() -> None:
    replies: Iterator[str | Reply] = iter(["I am sorry.", Reply("1. dry\n2. livel", "length", 1, 1)])
    asked, teacher = inquiry(lambda prompt: next(replies), sampling=Sampling(0.0, 1.0, 9))
    # What the length limit cut is lost.
    assert asyncio.run(asked.values(STYLE, None, ())) == [Value(None, "style", "dry")]
    first, second = (sampling.temperature for _, sampling in teacher.asked)
    assert first == 0 < second
    assert counted(asked, "values") == (2, 1)


@pytest.mark.parametrize("reply", ["I cannot.", "", f"1. {'long ' * 60}\n2. {'longer ' * 60}"])
def test_a_dimension_without_a_value_leaves_a_row_that_says_so(reply: str) -> None:
    asked, _ = inquiry(lambda prompt: reply)
    assert asyncio.run(asked.values(TOPIC, "sport", ())) == [
        Value("sport", "sub_topic", None, False, "values: no list")
    ]
    assert counted(asked, "values") == (2, 0)


def filtering(verdicts: dict[str, str], **wanted: Any) -> tuple[list[Value], Inquiry, Teacher]:
    """Values a to d of sport, after these answers about them."""

    def answer(prompt: str) -> str:
        if "yes or no" in prompt:
            return verdicts[prompt.splitlines()[0][-1]]
        return "1. war" if "Which of the labels" in prompt else "1. a\n2. b\n3. c\n4. d"

    asked, teacher = inquiry(answer, **({"values": 4} | wanted))
    return asyncio.run(asked.of_label([TOPIC], "sport"))[1], asked, teacher


def test_values_that_have_to_do_with_similar_labels_are_dropped() -> None:
    values, asked, teacher = filtering({"a": "No.", "b": "yes", "c": "Yes, it does.", "d": "hm, hm"})
    told = [(value.value, value.kept, value.reason) for value in values]
    assert told == [
        ("a", True, None),
        ("b", False, "value filter: related"),
        ("c", False, "value filter: related"),
        ("d", True, "value filter: no answer"),
    ]
    assert counted(asked, "value filter") == (5, 3)
    verdicts = [(p, s) for p, s in zip(teacher.prompts, teacher.asked, strict=True) if "yes or no" in p]
    assert all("- armies" in prompt and "companies" not in prompt for prompt, _ in verdicts)
    assert {(s.temperature, s.top_p, s.max_tokens) for _, (_, s) in verdicts} == {(0.7, 0.95, 128)}


def test_of_a_label_no_more_values_are_dropped_than_are_allowed() -> None:
    values, _, _ = filtering(dict.fromkeys("abcd", "yes"), drops=3)
    assert [value.kept for value in values] == [False, False, False, True]
    assert values[3].reason == "value filter: enough dropped"


@pytest.mark.parametrize("wanted", [{"drops": 0}, {"similar": 0}])
def test_without_the_filter_or_without_similar_labels_no_value_is_asked_about(wanted: Any) -> None:
    values, asked, teacher = filtering({}, **wanted)
    assert [value.kept for value in values] == [True] * 4
    assert counted(asked, "value filter") == (0, 0)
    assert len(teacher.asked) == (2 if "drops" in wanted else 1)


def test_values_of_the_user_are_not_asked_about() -> None:
    asked, teacher = inquiry(lambda prompt: "1. war")
    given = Dimension("depth", by_label=True, values={"sport": ("deep", "flat")})
    similar, values = asyncio.run(asked.of_label([given], "sport"))
    assert (similar, values) == (["war"], [Value("sport", "depth", "deep"), Value("sport", "depth", "flat")])
    assert len(teacher.asked) == 1


def test_raw_prompts_end_with_a_cue() -> None:
    asked, teacher = inquiry(lambda prompt: "dry\n2. lively", raw=True)
    assert [value.value for value in asyncio.run(asked.values(STYLE, None, ()))] == ["dry", "lively"]
    assert isinstance(teacher.asked[0][0], str) and teacher.prompts[0].endswith("\n\n1.")


def test_tables_keep_what_was_found_and_in_which_order() -> None:
    rows = [
        Value("b", "kind", "x"),
        Value("b", "kind", "y", False, "value filter: related"),
        Value("a", "kind", None, False, "values: no list"),
        Value(None, "tone", "dry"),
        Value(None, "tone", "lively"),
    ]
    table = attribute_table(rows, ["tone", "kind"])
    assert table.column_names == ["label", "attribute", "value", "kept", "reason"]
    assert table.to_pylist()[2:] == [row._asdict() for row in rows[:3]]
    tone = {"tone": ["dry", "lively"]}
    found = kept_values(table, ["a", "b"])
    assert found == {"a": tone, "b": {**tone, "kind": ["x"]}}
    assert list(found["b"]) == ["tone", "kind"]
    near = similar_table({"a": ["b", "c"], "b": []})
    assert near.to_pylist() == [
        {"label": "a", "rank": 1, "similar": "b"},
        {"label": "a", "rank": 2, "similar": "c"},
    ]
    assert similar_table({}).column_names == near.column_names
    assert kept_values(attribute_table([], []), ["a"]) == {"a": {}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, Dimension("n")),
        ("how dry it is", Dimension("n", "how dry it is")),
        ([1950, "1960s"], Dimension("n", values={None: ("1950", "1960s")})),
        ({"by_label": True}, Dimension("n", by_label=True)),
        (
            {"what": "w", "values": {"a": ["x"], "b": ["y", "z"]}},
            Dimension("n", "w", True, {"a": ("x",), "b": ("y", "z")}),
        ),
    ],
)
def test_an_attribute_may_be_given_in_short(given: Any, expected: Dimension) -> None:
    settings = AttributeSettings.model_validate(given)
    assert settings.dimension("n", ["a", "b"]) == expected
    for mode in ("json", "python"):
        assert AttributeSettings.model_validate(settings.model_dump(mode=mode)) == settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "at least one"),
        (["x", " "], "none that is empty"),
        ({"values": {}}, "at least one"),
        ({"values": {"a": []}}, "at least one"),
        ({"values": ["x"], "by_label": True}, "by_label"),
        ({"values": {"a": ["x"]}, "by_label": False}, "by_label"),
        ({"values": "x"}, "values"),
        ({"words": ["x"]}, "words"),
        (7, "dictionary"),
    ],
)
def test_attributes_that_cannot_be_are_refused(given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AttributeSettings.model_validate(given)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"a": ["x"]}, "b has none"), ({"a": ["x"], "b": ["y"], "c": ["z"]}, "the task has no label c")],
)
def test_values_by_label_have_to_be_those_of_the_labels(values: Any, said: str) -> None:
    settings = AttributeSettings.model_validate({"values": values})
    with pytest.raises(SettingsError, match=rf"method\.attributes\.kind\.values: {said}"):
        settings.dimension("kind", ["a", "b"])
