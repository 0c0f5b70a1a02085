"""Incubator: all labels in one call, an outcome for each label, and its prompts word for word."""

import json
from collections import Counter
from typing import Any

import pytest

from cluster.errors import SettingsError
from synth.method import Method
from synth.methods.incubator import LETTERS_PER_TOKEN, SHOWN, Incubator, IncubatorSettings
from synth.prompting import as_text
from synth.records import Author, Example, Item, Message, Rejection, Reply
from synth.rows import as_batch, ledger_schema, settled_rows
from synth.task import Task
from tests.unit.synth.method_desk import Teacher, headlines, is_golden, pairs, planned, worked

LABELS = {
    "Sport": "a match or an athlete",
    "Trade": "companies and markets",
    "Other": "anything that is neither sport nor trade",
}
ODD = {
    'say "hi"': 'a greeting with "quotes"',
    "a{b}": "braces {{ x }} {% y %}",
    "#3": "a # sign",
    "two\nlines": "a line\nand another",
    "体育": "sports, in Chinese",
    "C": "the language C",
    "C++": "the language C++",
}
MANY = {f"label number {place}": f"kind {place} of eighty" for place in range(80)}
FINE = {"Sport": "Cup final tonight.", "Trade": "Shares fall.", "Other": "It rains."}


def task(labels: dict[str, str] | None = None) -> Task:
    return headlines(0, LABELS if labels is None else labels)


def build(given: Task | None = None, **settings: Any) -> Incubator:
    method: Method = IncubatorSettings.model_validate(settings).build(given or task())
    assert isinstance(method, Incubator)
    return method


def first(method: Method) -> Item:
    return planned(method, 1)[0]


def outcomes(reply: str | Reply, **settings: Any) -> list[tuple[str, str, str]]:
    """Return (label, accepted or reason, text) for each label of the first item."""
    method = build(**settings)
    found = worked(method, first(method), Teacher(lambda prompt: reply))
    assert [each.label for each in found] == list(LABELS)
    return [(str(each.label), *told(each)) for each in found]


def told(outcome: Example | Rejection) -> tuple[str, str]:
    if isinstance(outcome, Example):
        return "accepted", outcome.fields["text"]
    return outcome.reason, outcome.text


def reasons(reply: str | Reply, **settings: Any) -> list[str]:
    return [reason for _, reason, _ in outcomes(reply, **settings)]


@pytest.mark.parametrize(
    ("name", "labels", "settings"),
    [
        ("schema_chat", LABELS, {}),
        ("schema_raw", LABELS, {"render": "raw"}),
        ("free_chat", LABELS, {"form": "free"}),
        ("free_raw", LABELS, {"form": "free", "render": "raw"}),
        ("odd_labels", ODD, {}),
        ("some_labels", ODD, {"labels_per_call": 4}),
    ],
)
def test_the_prompt_is_the_golden_one(name: str, labels: dict[str, str], settings: dict[str, Any]) -> None:
    method = build(task(labels), **settings)
    prompt = method.prompt(first(method))
    assert isinstance(prompt, str) is (settings.get("render") == "raw")
    assert is_golden(prompt, f"incubator_{name}")


def test_every_item_has_all_labels_and_the_plan_has_no_end() -> None:
    method = build()
    items = planned(method, 500)
    assert {item.labels for item in items} == {tuple(LABELS)}
    assert [item.draw for item in items] == list(range(500))
    assert method.capacity({}) is None
    assert planned(method, 500) == planned(build(), 500) == items
    others = [
        planned(method, 50, round=1),
        planned(build(form="free"), 50),
        planned(build(partial="drop"), 50),
    ]
    ids = [item.id for some in (items, *others) for item in some]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("most", "sizes"),
    [(None, [80]), (80, [80]), (200, [80]), (30, [26, 27, 27]), (7, [6, 7, 7, 6, 7, 7] * 2)],
)
def test_many_labels_are_shared_out_over_calls_in_turn(most: int | None, sizes: list[int]) -> None:
    method = build(task(MANY), labels_per_call=most)
    items = planned(method, 3 * len(sizes))
    assert [len(item.labels) for item in items] == 3 * sizes
    assert [label for item in items[: len(sizes)] for label in item.labels] == list(MANY)
    assert Counter(label for item in items for label in item.labels) == dict.fromkeys(MANY, 3)
    # Each prompt names all labels, and shows the form of its own alone.
    for item in items[: len(sizes)]:
        prompt = as_text(method.prompt(item))
        assert all(name in prompt.replace("_", " ") for name in MANY)
        assert len(json.loads(prompt.rpartition("\n")[2])) == len(item.labels)


@pytest.mark.parametrize("labels", [LABELS, ODD, MANY])
@pytest.mark.parametrize("most", [None, 4])
@pytest.mark.parametrize("form", ["schema", "free"])
def test_one_call_gives_an_example_for_each_label(
    labels: dict[str, str], most: int | None, form: str
) -> None:
    method = build(task(labels), labels_per_call=most, form=form)
    calls = 0
    items = planned(method, 1 if most is None else -(-len(labels) // most))
    made: list[Example | Rejection] = []
    for item in items:
        keys = item.labels
        if form == "schema":
            schema = json.loads(method._groups[item.labels].sampling.structure.json_schema)  # type: ignore[union-attr, arg-type]
            keys = tuple(schema["properties"])
            assert list(keys) == schema["required"] and schema["additionalProperties"] is False
        reply = json.dumps({key: f"Text of {place}." for place, key in enumerate(keys)})
        teacher = Teacher(lambda prompt, reply=reply: reply)  # type: ignore[misc]
        made += worked(method, item, teacher)
        calls += len(teacher.asked)
    assert [each.label for each in made] == list(labels)
    assert all(isinstance(each, Example) for each in made)
    # methods.md: 1/#labels calls for an example.
    assert calls / len(made) == len(items) / len(labels)


def test_sampling_is_plain_and_has_room_for_every_label() -> None:
    method = build(stop=["\n\n"])
    teacher = Teacher(lambda prompt: json.dumps(FINE))
    worked(method, first(method), teacher)
    ((prompt, sampling),) = teacher.asked
    assert isinstance(prompt, tuple) and [type(turn) for turn in prompt] == [Message]
    assert (sampling.temperature, sampling.top_p, sampling.stop) == (1, 1, ("\n\n",))
    form = len('{"Sport": "...", "Trade": "...", "Other": "..."}')
    assert sampling.max_tokens == 3 * 64 + form // 2
    assert sampling.structure is not None and sampling.structure.json_schema is not None
    text = json.loads(sampling.structure.json_schema)["properties"]["Other"]
    assert text == {"type": "string", "minLength": 2, "maxLength": 64 * LETTERS_PER_TOKEN}
    short = build(min_letters=30, sampling={"max_tokens": 5})
    worked(short, first(short), teacher)
    held = teacher.asked[-1][1].structure
    assert held is not None and '"minLength":20,"maxLength":20' in (held.json_schema or "")
    free = build(form="free")
    worked(free, first(free), teacher)
    assert teacher.asked[-1][1].structure is None


def test_a_whole_dictionary_is_accepted_label_by_label_with_what_it_held() -> None:
    method = build()
    reply = json.dumps({"Why": "because", **dict(reversed(FINE.items()))})
    found = worked(method, first(method), Teacher(lambda prompt: f"Sure:\n```json\n{reply}\n```"))
    extra = {"labels_filled": "3/3", "other_keys": "1"}
    assert found == [Example({"text": text}, label, extra) for label, text in FINE.items()]
    plain = worked(method, first(method), Teacher(lambda prompt: json.dumps(FINE)))
    assert [each.extra for each in plain if isinstance(each, Example)] == [{"labels_filled": "3/3"}] * 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ({"Sport": "Cup final."}, ["accepted", "missing_label", "missing_label"]),
        (FINE | {"Trade": "It rains!"}, ["accepted", "duplicate_value", "duplicate_value"]),
        (FINE | {"Trade": " ... "}, ["accepted", "empty_text", "accepted"]),
        (FINE | {"Trade": "Trade."}, ["accepted", "label_as_text", "accepted"]),
        (FINE | {"Trade": "Companies and markets"}, ["accepted", "label_as_text", "accepted"]),
        (FINE | {"Trade": 7, "Other": None}, ["accepted", "no_text", "no_text"]),
        (FINE | {"Trade": "x " * 128}, ["accepted", "cut_off_text", "accepted"]),
        (FINE | {"Trade": "x " * 129}, ["accepted"] * 3),
        (dict.fromkeys(FINE, ""), ["empty_text"] * 3),
    ],
)
def test_what_is_wrong_with_one_label_leaves_the_others(reply: dict[str, Any], expected: list[str]) -> None:
    assert reasons(json.dumps(reply)) == expected


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply("", "stop", 1, 0), "empty"),
        (Reply("I cannot do that.", "stop", 1, 5), "unparsed"),
        (Reply('{"Joy": "x"}', "stop", 1, 5), "misfit"),
        (Reply('{"Sport": "Cup fi', "length", 1, 5), "cut_off"),
    ],
)
def test_a_reply_without_a_dictionary_is_refused_for_every_label(reply: Reply, expected: str) -> None:
    assert outcomes(reply) == [(label, expected, reply.text) for label in LABELS]


def test_a_reply_is_kept_once_in_full_and_shown_with_the_other_labels() -> None:
    prose = "word " * 200
    assert [len(text) for _, _, text in outcomes(prose)] == [len(prose), SHOWN, SHOWN]
    lacking = outcomes(json.dumps({"Trade": "Shares fall.", "x": prose}))
    assert [len(text) for _, _, text in lacking] == [pytest.approx(1050, abs=50), 12, SHOWN]


def test_what_was_complete_before_the_length_limit_counts() -> None:
    cut = Reply('{"Sport": "Cup final.", "Trade": "Shares fa', "length", 1, 9)
    assert reasons(cut) == ["accepted", "cut_off_text", "cut_off_text"]
    assert reasons(Reply(json.dumps(FINE) + " And", "length", 1, 9)) == ["accepted"] * 3


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (FINE, ["accepted"] * 3),
        ({"Sport": "Cup final."}, ["partial", "missing_label", "missing_label"]),
        (FINE | {"Joy": "x"}, ["partial"] * 3),
        (FINE | {"Trade": ""}, ["accepted", "empty_text", "accepted"]),
    ],
)
def test_a_dictionary_with_other_labels_can_be_dropped(reply: dict[str, str], expected: list[str]) -> None:
    assert reasons(json.dumps(reply), partial="drop") == expected


def test_a_tuned_teacher_answers_with_label_names_in_any_notation() -> None:
    for reply in (
        repr(FINE),
        json.dumps(FINE),
        "{'other': 'It rains.', 'SPORT': 'Cup.', 'Trade': 'Shares.'}",
    ):
        assert reasons(reply, form="free") == ["accepted"] * 3
    # Without a schema nothing ends a text after so many letters.
    assert reasons(json.dumps(FINE | {"Trade": "x " * 128}), form="free") == ["accepted"] * 3


def test_odd_labels_may_be_answered_by_key_or_by_name() -> None:
    method = build(task(ODD))
    for keys in (["say_hi", "a_b", "3", "two_lines", "class_5", "class_6", "class_7"], list(ODD)):
        reply = json.dumps({key: f"Text {place}." for place, key in enumerate(keys)})
        found = worked(method, first(method), Teacher(lambda prompt, reply=reply: reply))  # type: ignore[misc]
        assert [told(each) for each in found] == [("accepted", f"Text {place}.") for place in range(7)]


@pytest.mark.parametrize(
    "reply", ['{"Sport": "\\ud800 x", "Trade": "\\ud800"}', '{"Sport": "...", "Trade": 5}']
)
def test_the_ledger_takes_whatever_came(reply: str) -> None:
    method = build()
    item = first(method)
    found = worked(method, item, Teacher(lambda prompt: reply))
    rows = settled_rows(item, found, [], Author("incubator", "t", "r"), "text")
    batch, settled, refused = as_batch([(item.id, rows)], ledger_schema(("text",)))
    assert batch is not None and batch.num_rows == 3 and settled == (item.id,) and not refused


def test_the_published_code_asks_a_tuned_teacher_and_a_recipe_wins_over_it() -> None:
    settings = IncubatorSettings.model_validate({"preset": "published_code"})
    assert (settings.form, settings.partial, settings.render) == ("free", "drop", "chat")
    assert settings.sampling.model_dump() == {"temperature": 1, "top_p": 1, "max_tokens": 32}
    given = {"preset": "published_code", "partial": "keep", "sampling": {"temperature": 0.7}}
    changed = IncubatorSettings.model_validate(given)
    assert (changed.form, changed.partial) == ("free", "keep")
    assert changed.sampling.model_dump() == {"temperature": 0.7, "top_p": 1, "max_tokens": 32}


def test_an_instruction_of_ones_own_replaces_the_prompt() -> None:
    template = "{{ instruction }} {% for each in labels %}{{ each.name }}={{ each.phrase }};{% endfor %}"
    method = build(form="free", render="raw", instruction=template)
    prompt = method.prompt(first(method))
    assert prompt == "Tell the topic. " + "".join(f"{label}={phrase};" for label, phrase in LABELS.items())


@pytest.mark.parametrize(
    ("given", "settings", "message"),
    [
        (task(), {"instruction": "{{ verbalizer }}"}, "prompt template"),
        (task(), {"instruction": "{{ oops"}, "prompt template"),
        (pairs(0), {}, "task.fields: this method writes the field text alone"),
    ],
)
def test_what_cannot_work_is_refused_before_the_night(
    given: Task, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        build(given, **settings)


@pytest.mark.parametrize("wrong", [{"labels_per_call": 1}, {"form": "json"}, {"sampling": {"top_k": 50}}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IncubatorSettings.model_validate(wrong)
