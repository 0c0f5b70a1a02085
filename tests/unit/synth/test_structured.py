"""Structured replies: what fits is found in whatever surrounds it, the rest is refused, nothing raises."""

import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import SettingsError
from synth.records import Prompt, Reply, Sampling, Structure
from synth.structured import RETRY_TEMPERATURE, Answer, Unparsed, ask, choice_structure, json_structure, read

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "label": {"enum": ["positive", "negative"]},
        "stars": {"type": "integer"},
    },
    "required": ["text", "label"],
    "additionalProperties": False,
}
REVIEW = json_structure(SCHEMA)
FINE = {"text": "a", "label": "positive"}
FEELING = choice_structure(["positive", "negative"])
TOPIC = choice_structure(["World", "Sports", "Sci/Tech", "World News", "C", "C++", "A", "no", "体育", "科技"])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
OPEN = json_structure({"type": "object"})
MARKS = "{}[]\"'\\:,`“”’ \nab1-/*#tn\x00\ud800é体"


@pytest.mark.parametrize(
    "text",
    [
        '{"text": "a", "label": "positive"}',
        'Sure!\n```json\n{"text": "a", "label": "positive"}\n```\nI hope {this} helps.',
        '```\n{"text": "a", "label": "positive",}\n```',
        "{'text': 'a', 'label': 'positive'}",
        '{text: "a", label: "positive"}',
        "{“text”: “a”, “label”: “positive”}",
        '{"text": "a" "label": "positive"}',
        '{"text": """a""", "label": "positive"}',
        '{"text": "a", // short\n "label": "positive"}',
        '{"text": "a", "label": "positive"',
        '{"text": "a", "label": "positive"\n```\nI hope this helps!',
        '{"text": "a", "label": "positive"} {"text": "b", "label": "negative"}',
        '{"text": "x"} No: {"text": "a", "label": "positive"}',
        'With {braces: {"text": "a", "label": "positive"} and {more',
        '[{"text": "a", "label": "positive"}]',
        '{"answer": {"text": "a", "label": "positive"}}',
        '{"Text": "a", "LABEL ": " Positive.", "why": "because"}',
        f"{json.dumps(SCHEMA)}\n{json.dumps(FINE)}",
    ],
)
def test_the_object_that_fits_is_found(text: str) -> None:
    assert read(text, REVIEW) == FINE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"text": 5, "label": "negative", "stars": "4"}', {"text": "5", "label": "negative", "stars": 4}),
        ('{"text": "He said "hi" to me", "label": "positive"}', FINE | {"text": 'He said "hi" to me'}),
        ('{"text": "one\ntwo", "label": "positive"}', FINE | {"text": "one\ntwo"}),
        ("{'text': 'it's a film', 'label': 'positive'}", FINE | {"text": "it's a film"}),
    ],
)
def test_a_value_is_kept_as_it_was_meant(text: str, value: dict[str, Any]) -> None:
    assert read(text, REVIEW) == value


@pytest.mark.parametrize(
    ("text", "whole", "reason"),
    [
        ("", True, "empty"),
        (" \n", False, "cut_off"),
        ("I'm sorry, I cannot.", True, "unparsed"),
        ("text: a\nlabel: positive", True, "unparsed"),
        ("[" * 100_000, True, "unparsed"),
        ('{"text":' * 50_000, True, "unparsed"),
        ('{"text": "a", "label": "posi', True, "unparsed"),
        ("{'text': 'a rating of 5", True, "unparsed"),
        ('{"text": "a", "label": "neutral"}', True, "misfit"),
        ('{"text": "\\ud800", "label": "positive"}', True, "misfit"),
        ('{"text": "a", "label": "positive"', False, "cut_off"),
        ('{"text": "a"}', False, "cut_off"),
        ('{"all": [{"text": "a", "label": "positive"}, {"te', False, "cut_off"),
    ],
)
def test_what_does_not_fit_is_unparsed_with_a_reason(text: str, whole: bool, reason: str) -> None:
    assert read(text, REVIEW, whole) == Unparsed(reason, text)


def test_an_object_complete_before_the_cut_counts() -> None:
    assert read(f"{json.dumps(FINE)}\nThis is because", REVIEW, whole=False) == FINE


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("positive", "positive"),
        (" Positive.\n", "positive"),
        ("“NEGATIVE”", "negative"),
        ("**Negative**", "negative"),
        ("The answer is positive.", "positive"),
        ("Positive. The text isn't negative", "positive"),
        ("Positive\n\nIt is not negative", "positive"),
        ('{"label": "negative"}', "negative"),
        ("posit", "positive"),
        ("This is not positive", None),
        ("It isn't really positive", None),
        ("Positive or negative", None),
        ("positively", None),
        ("neither", None),
        ("po", None),
    ],
)
def test_a_choice_is_read_when_it_is_the_only_one_meant(text: str, choice: str | None) -> None:
    assert read(text, FEELING) == (choice or Unparsed("no_choice", text))


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("world news!", "World News"),
        ("Topic: world", "World"),
        ("I'd say C++", "C++"),
        ("sci", "Sci/Tech"),
        ("答案是体育。", "体育"),
        ("(A)", "A"),
        ("There is a book", None),
        ("There is no doubt that it is about Sports", "Sports"),
    ],
)
def test_choices_that_share_words_or_are_words_of_any_sentence(text: str, choice: str | None) -> None:
    assert read(text, TOPIC) == (choice or Unparsed("no_choice", text))


def test_a_reply_without_a_choice_that_was_cut_off_says_so() -> None:
    assert read("It is", FEELING, whole=False) == Unparsed("cut_off", "It is")


@settings(deadline=None)
@given(
    value=st.dictionaries(st.text(), ANYTHING, max_size=5), before=st.text("ab .!\n"), indent=st.booleans()
)
def test_json_that_fits_is_itself_alone_in_fences_and_in_prose(
    value: dict[str, Any], before: str, indent: bool
) -> None:
    text = json.dumps(value, ensure_ascii=indent, indent=2 if indent else None)
    for reply in (text, f"{before}\n```json\n{text}\n```\n", f"{before}{text} {before}"):
        assert read(reply, OPEN) == value
        assert read(reply, OPEN, whole=False) == value


@settings(deadline=None)
@given(text=st.text() | st.text(MARKS, max_size=200), whole=st.booleans())
def test_no_text_raises_and_what_is_read_fits(text: str, whole: bool) -> None:
    for structure in (REVIEW, OPEN):
        value = read(text, structure, whole)
        assert isinstance(value, Unparsed) or isinstance(json.loads(json.dumps(value)), dict)
    for structure in (FEELING, TOPIC):
        value = read(text, structure, whole)
        assert value in structure.choices or isinstance(value, Unparsed)


@settings(deadline=None)
@given(
    value=st.fixed_dictionaries(
        {"text": st.text(MARKS, max_size=40), "label": st.sampled_from(["positive"])}
    ),
    place=st.integers(0, 80),
    size=st.integers(0, 12),
    put=st.text(MARKS, max_size=6),
    whole=st.booleans(),
)
def test_mutated_json_never_raises(
    value: dict[str, Any], place: int, size: int, put: str, whole: bool
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    found = read(text[:place] + put + text[place + size :], REVIEW, whole)
    assert isinstance(found, Unparsed) or {"text", "label"} <= found.keys()


@settings(deadline=None)
@given(st.lists(st.text(min_size=1).map(str.strip).filter(bool), min_size=1, max_size=9, unique=True))
def test_choices_are_read_back(choices: list[str]) -> None:
    structure = choice_structure(choices)
    assert [read(choice, structure) for choice in choices] == choices
    assert [read(f" {choice}\n", structure) for choice in choices] == choices


def test_hostile_replies_take_no_long_time() -> None:
    hostile = [
        "{" * 20_000,
        '{"' * 5000,
        "{'a\" " * 3000 + "}",
        '{"a": "' + '", ' * 4000 + '"}',
        "{word " * 9000,
    ]
    hostile += ["{" + "[1," * 900 + "}", "{" + '\\"' * 7000 + "}", "{a}" * 30_000, "positive not " * 9000]
    began = time.process_time()
    for text in hostile:
        read(text, REVIEW)
        read(text, TOPIC)
    assert time.process_time() - began < 5


def test_the_same_schema_is_one_text_with_its_keys_in_their_order() -> None:
    assert json_structure(dict(SCHEMA)).json_schema is REVIEW.json_schema
    assert json.loads(REVIEW.json_schema or "") == SCHEMA
    assert list(json.loads(REVIEW.json_schema or "")["properties"]) == ["text", "label", "stars"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "objekt"}, "type must be object"),
        ({"type": "array"}, "wrap"),
        ({"type": "object", "properties": {"a": {"type": "text"}}}, "text"),
        ({"type": "object", "properties": {"a": {"pattern": "("}}}, "reply schema"),
        ({"type": "object", "properties": {"a": {"$ref": "https://example.org/a"}}}, "leads out of it"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}}, "a"),
        ({"type": "object", "maximum": float("nan")}, "is not JSON"),
        ({"type": "object", "const": {1, 2}}, "is not JSON"),
        ({"type": "object", "description": "\ud800"}, "is not JSON"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused(schema: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        json_structure(schema)


def test_a_schema_may_refer_to_itself() -> None:
    tree = json_structure(
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "additionalProperties": False}
    )
    assert read('{"a": {"a": {}}}', tree) == {"a": {"a": {}}}
    assert isinstance(read('{"a":' * 500 + "{}" + "}" * 500, tree), Unparsed | dict)


@pytest.mark.parametrize("choices", [[], [""], ["a", "a"], ["a", " "], ["a "]])
def test_choices_that_cannot_be_told_apart_are_refused(choices: list[str]) -> None:
    with pytest.raises(SettingsError, match="reply choices"):
        choice_structure(choices)


class Teacher:
    """Gives replies in turn and keeps what it was asked."""

    def __init__(self, replies: Sequence[Reply]) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[Prompt, Sampling]] = []

    async def __call__(self, prompt: Prompt, sampling: Sampling) -> Reply:
        self.asked.append((prompt, sampling))
        return self.replies.pop(0)


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text, finish_reason, 1, 1)


async def test_a_reply_is_asked_for_again_until_it_has_its_form() -> None:
    good = reply('{"text": "a", "label": "positive"}')
    teacher = Teacher([reply("no"), reply('{"text": "a', "length"), good])
    assert await ask(teacher, "p", Sampling(), REVIEW) == Answer(FINE, good, 3)
    assert teacher.asked == [("p", Sampling(structure=REVIEW))] * 3


async def test_after_the_last_attempt_the_answer_says_why() -> None:
    cut = reply("{", "length")
    assert await ask(Teacher([reply("no"), cut]), "p", Sampling(), REVIEW, attempts=2) == Answer(
        Unparsed("cut_off", "{"), cut, 2
    )
    alone = await ask(Teacher([reply("who knows")]), "p", Sampling(), FEELING, attempts=1)
    assert (alone.value, alone.attempts) == (Unparsed("no_choice", "who knows"), 1)


async def test_a_greedy_attempt_is_followed_by_draws() -> None:
    teacher = Teacher([reply("?"), reply("?"), reply("negative")])
    answer = await ask(teacher, "p", Sampling(temperature=0), FEELING)
    assert (answer.value, answer.attempts) == ("negative", 3)
    heat = [sampling.temperature for _, sampling in teacher.asked]
    assert heat == [0, RETRY_TEMPERATURE, RETRY_TEMPERATURE]


async def test_what_the_teacher_raises_is_let_through() -> None:
    async def fail(prompt: Prompt, sampling: Sampling) -> Reply:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await ask(fail, "p", Sampling(), Structure(choices=("a",)))
