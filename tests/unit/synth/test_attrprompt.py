"""AttrPrompt and SimPrompt: what is prepared, how attributes are drawn, what texts cost, and the prompts."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from cluster.settings import validate
from synth.method import Sources
from synth.methods.attrprompt import AttrPrompt, AttrPromptSettings
from synth.methods.simprompt import SimPrompt, SimPromptSettings
from synth.records import Example, Rejection, Reply, Sampling
from synth.task import Task
from tests.unit.synth.method_desk import Teacher, headlines, is_golden, pairs, planned, prepared, worked

LABELS = {"sport": "a match or an athlete", "trade": "companies and markets", "arts": "music, film and books"}
PROPOSED = [
    {"name": "subtopic", "what": "what exactly it is about", "differs_by_label": True},
    {"name": "tone", "what": "how it speaks", "differs_by_label": False},
]


def task(labels: dict[str, str] | None = None, **changes: Any) -> Task:
    """A task without seeds; by default without a length too."""
    made = headlines(0, LABELS if labels is None else labels)
    return replace(made, settings=made.settings.model_copy(update={"length": None} | changes))


def build(of: Task | None = None, **settings: Any) -> AttrPrompt:
    method = AttrPromptSettings.model_validate(settings).build(task() if of is None else of)
    assert isinstance(method, AttrPrompt)
    return method


def simple(of: Task | None = None, **settings: Any) -> SimPrompt:
    method = SimPromptSettings.model_validate(settings).build(task() if of is None else of)
    assert isinstance(method, SimPrompt)
    return method


def answer(prompt: str, proposed: Sequence[dict[str, Any]] = PROPOSED, verdict: str = "no") -> str:
    """A teacher that follows."""
    if "In which ways" in prompt:
        return json.dumps({"attributes": proposed})
    if "Which of the labels" in prompt:
        return "1. sport\n2. arts\n3. trade"
    if "Write a numbered list of" in prompt:
        return "1. first\n2. second\n3. third\n4. fourth"
    return verdict if "yes or no" in prompt else "A text."


def sources(method: AttrPrompt, **changes: Any) -> tuple[Sources, Teacher]:
    teacher = Teacher(lambda prompt: answer(prompt, **changes))
    return prepared(method, teacher), teacher


def told(table: Any) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in table.to_pylist()]


# What is prepared


def test_the_teacher_proposes_attributes_and_their_values() -> None:
    found, _ = sources(build(values=2))
    ours = [(None, "tone", value, True, None) for value in ("first", "second")]
    of_labels = [(label, "subtopic", value, True, None) for label in LABELS for value in ("first", "second")]
    lengths = [(None, "length", f"between {n} and {n + 50} words", True, None) for n in (30, 100)]
    assert told(found["attributes"]) == [*of_labels, *ours, *lengths]
    assert told(found["similar"])[:2] == [("sport", 1, "arts"), ("sport", 2, "trade")]
    assert told(found["stages"]) == [
        ("dimensions", 1, 1),
        ("similar", 3, 3),
        ("values", 4, 4),
        ("value filter", 6, 6),
    ]


@pytest.mark.parametrize(("classes", "dimensions", "values"), [(3, 1, 4), (3, 3, 2), (5, 2, 3)])
def test_the_calls_are_those_of_the_paper(classes: int, dimensions: int, values: int) -> None:
    # One proposal; for each class its similar ones and a list for each attribute; a verdict on each value.
    labels = {f"class {n}": f"what is {n}" for n in range(classes)}
    proposed = [{"name": f"a{n}", "what": "w", "differs_by_label": True} for n in range(dimensions)]
    method = build(task(labels), dimensions=dimensions, values=values)
    teacher = Teacher(
        lambda prompt: (
            "\n".join(f"{n}. class {n}" for n in range(classes))
            if "Which of the labels" in prompt
            else answer(prompt, proposed)
        )
    )
    made = prepared(method, teacher)
    assert len(teacher.asked) == 1 + (dimensions + 1) * classes + dimensions * classes * values
    items = planned(method, 10, made)
    before = len(teacher.asked)
    for item in items:
        assert worked(method, item, teacher) == [Example({"text": "A text."}, item.labels[0])]
    assert len(teacher.asked) == before + len(items)


def test_attributes_of_the_user_are_not_proposed_and_only_asked_about_where_values_are_open() -> None:
    given = {
        "place": ["town", "sea"],
        "depth": {"values": {label: [f"{label} deep"] for label in LABELS}},
        "tone": "how it speaks",
        "subtopic": {"by_label": True},
    }
    found, teacher = sources(build(attributes=given, similar=0, values=4))
    assert len(teacher.asked) == 1 + len(LABELS)
    pools = build(attributes=given, similar=0).pools(found)
    assert list(pools["arts"]) == ["place", "depth", "tone", "subtopic", "length"]
    assert pools["arts"]["depth"] == ["arts deep"]
    assert pools["arts"]["place"] == ["town", "sea"]


def test_what_is_dropped_is_recorded_and_never_drawn() -> None:
    method = build(values=4, drops=3)
    found, _ = sources(method, verdict="yes")
    dropped = [row for row in found["attributes"].to_pylist() if not row["kept"]]
    assert Counter((row["label"], row["reason"]) for row in dropped) == {
        (label, "value filter: related"): 3 for label in LABELS
    }
    assert {item.attributes["subtopic"] for item in planned(method, 60, found)} == {"fourth"}


def test_an_attribute_that_gets_no_value_is_left_out_and_counted() -> None:
    method = build(values=2, attempts=1)
    teacher = Teacher(lambda prompt: "No." if "companies and markets differ" in prompt else answer(prompt))
    found = prepared(method, teacher)
    assert ("trade", "subtopic", None, False, "values: no list") in told(found["attributes"])
    assert ("values", 4, 3) in told(found["stages"])
    names = {item.labels[0]: list(item.attributes) for item in planned(method, 3, found)}
    assert names["sport"] == ["subtopic", "tone", "length", "similar"]
    assert names["trade"] == ["tone", "length", "similar"]


@pytest.mark.parametrize(
    ("settings", "spoilt", "stage", "remedy"),
    [
        ({}, "In which ways", "dimensions", "method.attributes"),
        ({}, "Write a numbered list of 10", "values", "larger teacher"),
        (
            {"attributes": {"kind": {"by_label": True}}, "values": 2},
            "yes or no",
            "value filter",
            "method.drops",
        ),
    ],
)
def test_when_nothing_is_left_to_draw_the_error_names_stage_reply_and_remedy(
    settings: Any, spoilt: str, stage: str, remedy: str
) -> None:
    teacher = Teacher(lambda prompt: "yes, " + "so " * 99 if spoilt in prompt else answer(prompt))
    with pytest.raises(RunError, match=rf"prepare: {stage}: no attribute .*'yes, so .*{remedy}") as caught:
        prepared(build(**settings), teacher)
    assert len(str(caught.value)) < 420


def test_a_length_that_the_task_or_the_user_gives_is_not_drawn() -> None:
    given = {"tone": ["dry"]}
    for method in (
        build(task(length="one sentence"), attributes=given),
        build(attributes=given, lengths=[]),
    ):
        assert list(planned(method, 1, sources(method)[0])[0].attributes) == ["tone", "similar"]
    own = build(task(length="one sentence"), attributes={"Length": ["short"], "style": ["plain"]})
    item = planned(own, 1, sources(own)[0])[0]
    assert list(item.attributes) == ["Length", "style", "similar"]
    assert "one sentence" not in own.request(item) and "1. Length: short" in own.request(item)


def test_the_teacher_is_told_what_the_task_fixes() -> None:
    _, teacher = sources(build(task(style="plain")))
    assert "apart from label and length and style?" in teacher.prompts[0]
    proposed = [{"name": "Style", "what": "", "differs_by_label": False}, *PROPOSED]
    found, _ = sources(build(task(style="plain"), similar=0), proposed=proposed)
    assert "Style" not in found["attributes"]["attribute"].to_pylist()


def test_the_published_code_has_a_value_for_all_others() -> None:
    method = build(preset="published_code", values=2, lengths=[30])
    found, _ = sources(method)
    pools = method.pools(found)
    assert pools["arts"]["tone"] == ["first", "second", "other than first; second"]
    assert pools["arts"]["length"] == ["between 30 and 80 words"]
    settings = method.settings
    assert (settings.sampling.max_tokens, settings.sampling.temperature) == (2048, 1.0)
    kept = AttrPromptSettings.model_validate({"preset": "published_code", "others": False})
    assert not kept.others
    assert SimPromptSettings(preset="published_code").sampling.max_tokens == 2048


# Plans


def test_labels_take_turns_without_end_and_values_are_drawn_independently() -> None:
    method = build(values=4)
    found, _ = sources(method)
    items = planned(method, 3000, found)
    assert [item.labels[0] for item in items[:4]] == ["sport", "trade", "arts", "sport"]
    assert method.capacity(found) is None
    arts = [item.attributes for item in items if item.labels == ("arts",)]
    drawn = Counter((each["subtopic"], each["tone"], each["length"]) for each in arts)
    # 4 × 4 × 2 combinations, 31 draws of each to be expected.
    assert len(drawn) == 32
    assert min(drawn.values()) >= 10 and max(drawn.values()) <= 60
    assert {each["similar"] for each in arts} == {'["sport", "trade"]'}


def test_the_plan_is_the_same_each_time_and_another_in_each_round() -> None:
    method = build()
    found, _ = sources(method)
    first = planned(method, 60, found)
    assert planned(method, 90, found)[:60] == planned(build(), 60, found) == first
    slots = [slot for slot, _ in zip(method.plan(found, 0, {}), range(60), strict=False)]
    assert [slot.build() for slot in reversed(slots)] == first[::-1]
    other = planned(method, 60, found, round=1)
    assert not {item.id for item in other} & {item.id for item in first}
    assert [item.attributes for item in other] != [item.attributes for item in first]


def test_simprompt_draws_nothing() -> None:
    items = planned(simple(), 100)
    assert all(not item.attributes for item in items)
    assert len({simple().prompt(item) for item in items}) == 3
    assert simple().plan_key != simple(instruction="Write.").plan_key


# Prompts and replies


@pytest.mark.parametrize("render", ["chat", "raw"])
def test_the_prompt_of_a_text_is_the_golden_one(render: str) -> None:
    method = build(
        render=render, attributes={"sub_topic": ["a {{ transfer }}"], "tone": ["dry"]}, lengths=[30]
    )
    item = planned(method, 1, sources(method)[0])[0]
    assert is_golden(method.prompt(item), f"attrprompt_text_{render}")
    plain = simple(task(length="one sentence", style="plain words"), render=render)
    assert is_golden(plain.prompt(planned(plain, 1)[0]), f"simprompt_{render}")


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("dimensions", "In which ways"),
        ("similar", "Which of the labels"),
        ("values_by_label", "a match or an athlete differ in"),
        ("values", "tone (how it speaks)"),
        ("filter", "yes or no"),
    ],
)
def test_the_prompts_of_the_preparation_are_the_golden_ones(stage: str, said: str) -> None:
    _, teacher = sources(build())
    first = next(prompt for prompt, text in zip(teacher.asked, teacher.prompts, strict=True) if said in text)
    assert is_golden(first[0], f"attrprompt_{stage}")


def test_without_attributes_and_similar_labels_the_request_stands_alone() -> None:
    method = build(attributes={"kind": {"by_label": True}}, similar=0, lengths=[], attempts=1)
    teacher = Teacher(lambda prompt: "No." if "companies and markets differ" in prompt else answer(prompt))
    trade = planned(method, 2, prepared(method, teacher))[1]
    assert trade.attributes == {}
    assert method.prompt(trade) == simple().prompt(planned(simple(), 2)[1])


@pytest.mark.parametrize("kind", [build, simple])
def test_a_reply_is_one_text(kind: Any) -> None:
    method = kind()
    found = sources(method)[0] if kind is build else {}
    item = planned(method, 1, found)[0]
    outcomes = worked(method, item, Teacher(lambda prompt: 'Headline: "Cup final."\nHeadline: Shares fall.'))
    assert outcomes == [
        Example({"text": "Cup final."}, "sport"),
        Rejection("run_on", "Shares fall.", "sport"),
    ]
    assert worked(method, item, Teacher(lambda prompt: " ")) == [Rejection("empty", "", "sport")]
    cut = Teacher(lambda prompt: Reply("Cup fi", "length", 1, 1))
    assert worked(method, item, cut) == [Rejection("cut_off", "Cup fi", "sport")]
    ((_, sampling),) = cut.asked
    assert sampling == Sampling(1.0, 1.0, 400, ("\nHeadline:",))


def test_labels_may_be_anything() -> None:
    odd = {
        'a "b"': "{{ x }} {% y %}",
        "c#d: e": "naïve {0} %s",
        "zwei\nZeilen": "日本語",
        "\\": "back; slash",
    }
    method = build(task(odd), values=2)
    names = "\n".join(f"{n}. {name}" for n, name in enumerate(odd, 1))
    teacher = Teacher(lambda prompt: names if "Which of the labels" in prompt else answer(prompt))
    for item in planned(method, 8, prepared(method, teacher)):
        near = json.loads(item.attributes["similar"])
        assert near and set(near) <= set(odd) - set(item.labels)
        request = method.request(item)
        assert all(odd[name] in request for name in [*near, *item.labels])


# Settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"attributes": {}}, "at least one"),
        ({"attributes": {"similar": ["x"]}}, "similar"),
        ({"attributes": {" ": ["x"]}}, "name of its own"),
        ({"attributes": {"Sub topic": ["x"], "sub_topic": ["y"]}}, "sub topic"),
        ({"lengths": [0]}, "above 0"),
        ({"dimensions": 0}, "dimensions"),
        ({"values": 1}, "values"),
        ({"drops": -1}, "drops"),
        ({"attempts": 0}, "attempts"),
        ({"preset": "papre"}, "known: published_code"),
    ],
)
def test_settings_that_cannot_be_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        validate(AttrPromptSettings, given, "recipe")


def test_settings_survive_being_written() -> None:
    settings = AttrPromptSettings.model_validate(
        {"attributes": {"a": ["x"], "b": None}, "asking": {"max_tokens": 9}}
    )
    assert settings.asking.temperature == 0.7
    for mode in ("json", "python"):
        assert AttrPromptSettings.model_validate(settings.model_dump(mode=mode)) == settings


def test_values_for_labels_that_the_task_has_not_are_refused_when_the_method_is_built() -> None:
    with pytest.raises(SettingsError, match=r"method\.attributes\.depth\.values: trade has none"):
        build(attributes={"depth": {"values": {"sport": ["deep"]}}})


@pytest.mark.parametrize("settings", [AttrPromptSettings, SimPromptSettings])
def test_tasks_of_several_fields_and_broken_templates_are_refused(settings: Any) -> None:
    with pytest.raises(SettingsError, match="fields"):
        settings().build(pairs())
    with pytest.raises(SettingsError, match="template"):
        settings(instruction="{{ nothing_such }}").build(task())
