"""The in-context variants: description, topic or gold examples of the label, one call for each example."""

import json
from collections import Counter
from itertools import count
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from synth.method import MethodSettings
from synth.methods.icl import ICL, SHOTS, ICLSettings
from synth.prompting import as_text
from synth.records import Example, Prompt, Rejection, Reply, make_item
from synth.task import Task
from tests.unit.synth.method_desk import Teacher, headlines, is_golden, pairs, planned, prepared, worked

VARIANTS = list(SHOTS)
TOPICS = "1. harbours\n2. a lost dog\n3. Harbours\n4. **winter**\n5. elections"
PROMPTS = [
    "zero_shot_text_chat",
    "zero_shot_topic_text_chat",
    "one_shot_text_chat",
    "few_shot_3_text_chat",
    "few_shot_3_text_raw",
    "few_shot_5_text_chat",
    "zero_shot_topic_pair_chat",
    "few_shot_3_pair_chat",
    "few_shot_3_pair_raw",
]
PAIR = {"text": "A ship left.", "hypothesis": "A ship was there."}


def build(task: Task | None = None, **settings: Any) -> ICL:
    method = ICLSettings.model_validate(settings).build(task or headlines())
    assert isinstance(method, ICL)
    return method


def lister(text: str = TOPICS, reason: str = "stop") -> Teacher:
    return Teacher(lambda prompt: Reply(text, reason, 1, 1))


def shown_as(name: str) -> Prompt:
    """Return the prompt of an item with the first seeds of its label, by the name of its golden file."""
    variant, fields, render = name.rsplit("_", 2)
    method = build(headlines() if fields == "text" else pairs(), variant=variant, render=render)
    label = method.task.labels[0]
    topic = {"topic": "a lost dog"} if variant == "zero_shot_topic" else {}
    shots = tuple(method.shots_of[label][: SHOTS[variant]])
    return method.prompt(make_item("key", 0, 0, (label,), shots=shots, attributes=topic))


def topical(task: Task | None = None, **settings: Any) -> tuple[ICL, Any]:
    method = build(task, variant="zero_shot_topic", topics=8, **settings)
    return method, prepared(method, lister())


@pytest.mark.parametrize("name", PROMPTS)
def test_the_prompt_is_the_golden_one(name: str) -> None:
    assert is_golden(shown_as(name), f"icl_{name}")


@pytest.mark.parametrize(("topics_for", "render"), [("task", "chat"), ("label", "raw")])
def test_the_request_for_topics_is_the_golden_one(topics_for: str, render: str) -> None:
    method, teacher = build(topics_for=topics_for, render=render), lister()
    prepared(method, teacher)
    assert is_golden(teacher.asked[0][0], f"icl_topics_{topics_for}_{render}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_take_turns_without_end_and_the_plan_is_the_same_each_time(variant: str) -> None:
    method = build(variant=variant, topics=8)
    sources = prepared(method, lister())
    first = planned(method, 301, sources)
    assert Counter(item.labels[0] for item in first) == {"sport": 151, "trade": 150}
    assert [item.labels[0] for item in first[:4]] == ["sport", "trade", "sport", "trade"]
    assert (
        planned(method, 400, sources)[:301]
        == planned(build(variant=variant, topics=8), 301, sources)
        == first
    )
    others = planned(method, 301, sources, round=1)
    assert not {item.id for item in others} & {item.id for item in first}
    if variant != "zero_shot":
        assert [(item.shots, item.attributes) for item in others] != [(i.shots, i.attributes) for i in first]
    assert method.capacity(sources) is None


def test_every_variant_and_setting_has_items_of_its_own() -> None:
    methods = [build(variant=variant) for variant in VARIANTS]
    methods += [
        build(topics=7),
        build(topics_for="label"),
        build(render="raw"),
        build(request="{{ verbalizer }}"),
    ]
    assert len({planned(method, 1)[0].id for method in methods}) == len(methods)


@pytest.mark.parametrize(("variant", "shots"), [("one_shot", 1), ("few_shot_3", 3), ("few_shot_5", 5)])
def test_shots_are_distinct_gold_examples_of_the_label_drawn_anew_for_each_item(
    variant: str, shots: int
) -> None:
    items = planned(build(variant=variant), 400)
    for item in items:
        assert len({shot.id for shot in item.shots}) == shots
        assert all(shot.text.startswith(f"Gold text {item.labels[0]} ") for shot in item.shots)
    assert set(Counter(shot.id for item in items for shot in item.shots)) == {s.id for s in headlines().seeds}
    assert len({tuple(shot.id for shot in item.shots) for item in items}) >= (12 if shots == 1 else 150)


def test_shots_of_several_fields_show_each_under_its_name() -> None:
    item = planned(build(pairs(), variant="one_shot"), 1)[0]
    number = item.shots[0].id.removeprefix("entailment")
    assert (
        item.shots[0].text
        == f"text: Gold text entailment {number}.\nhypothesis: Gold hypothesis entailment {number}."
    )


def test_topics_are_listed_once_and_one_is_drawn_for_each_item() -> None:
    teacher = lister()
    method = build(variant="zero_shot_topic", topics=8)
    sources = prepared(method, teacher)
    assert len(teacher.asked) == 1
    assert sources["topics"].to_pylist() == [
        {"label": None, "topic": topic} for topic in ("harbours", "a lost dog", "winter", "elections")
    ]
    assert sources["stages"].to_pylist() == [{"stage": "topics", "asked": 1, "got": 1}]
    items = planned(method, 400, sources)
    drawn = Counter(item.attributes["topic"] for item in items)
    assert set(drawn) == {"harbours", "a lost dog", "winter", "elections"}
    assert min(drawn.values()) > 60
    assert all(f"Its topic: {item.attributes['topic']}." in as_text(method.prompt(item)) for item in items)


def test_a_list_for_each_label_gives_a_label_its_own_topics() -> None:
    def answer(prompt: str) -> str:
        return "1. races\n2. clubs" if "an athlete" in prompt else "1. banks\n2. ports"

    teacher = Teacher(answer)
    method = build(topics=4, topics_for="label")
    sources = prepared(method, teacher)
    assert len(teacher.asked) == 2
    drawn = {(item.labels[0], item.attributes["topic"]) for item in planned(method, 60, sources)}
    assert drawn == {("sport", "races"), ("sport", "clubs"), ("trade", "banks"), ("trade", "ports")}


def test_a_label_whose_list_cannot_be_read_goes_without_topic() -> None:
    teacher = Teacher(lambda prompt: "I cannot." if "an athlete" in prompt else "1. banks\n2. ports")
    method = build(topics=4, topics_for="label")
    sources = prepared(method, teacher)
    assert sources["stages"].to_pylist() == [{"stage": "topics", "asked": 4, "got": 1}]
    sport, trade = planned(method, 2, sources)
    assert (dict(sport.attributes), set(trade.attributes)) == ({}, {"topic"})
    assert "Its topic" not in as_text(method.prompt(sport))


def test_topics_are_asked_for_again_while_less_than_half_is_there() -> None:
    number = count()
    teacher = Teacher(lambda prompt: f"1. topic {next(number)}\n2. Topic 0\n3. {'long ' * 60}")
    sources = prepared(build(topics=40, sampling={"temperature": 0, "max_tokens": 50}), teacher)
    assert sources["topics"]["topic"].to_pylist() == ["topic 0", "topic 1", "topic 2"]
    assert sources["stages"].to_pylist() == [{"stage": "topics", "asked": 3, "got": 3}]
    # A list of 40 topics does not fit into the tokens of one text, and a greedy teacher repeats itself.
    assert [sampling.max_tokens for _, sampling in teacher.asked] == [640] * 3
    assert [sampling.temperature > 0 for _, sampling in teacher.asked] == [False, True, True]


def test_a_list_that_was_cut_off_loses_its_last_topic() -> None:
    sources = prepared(build(topics=4), lister("1. one\n2. two\n3. thr", "length"))
    assert sources["topics"]["topic"].to_pylist() == ["one", "two"]


def test_no_topics_at_all_end_the_run_with_what_the_teacher_wrote_and_a_remedy() -> None:
    teacher = lister("As an assistant, " + "x" * 400)
    with pytest.raises(RunError, match=r"topics: .*wrote: 'As an assistant, x{183}'; take a larger teacher"):
        prepared(build(), teacher)
    assert len(teacher.asked) == 3


@pytest.mark.parametrize("task", [headlines, pairs])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_example_costs_one_call_and_topics_one_in_all(variant: str, task: Any) -> None:
    method, teacher = build(task(), variant=variant, topics=8), lister()
    sources = prepared(method, teacher)
    assert len(teacher.asked) == (variant == "zero_shot_topic")
    for reply in ("A text.", json.dumps(PAIR), "{", "", "no"):
        writer = lister(reply)
        for item in planned(method, 4, sources):
            worked(method, item, writer)
        assert len(writer.asked) == 4


@pytest.mark.parametrize(
    ("reply", "outcomes"),
    [
        (" Cup final. ", [Example({"text": "Cup final."}, "sport")]),
        ('Headline: "Cup final."', [Example({"text": "Cup final."}, "sport")]),
        ("Sure! Here is a headline about a match:\n\nCup final.", [Example({"text": "Cup final."}, "sport")]),
        ("Here is one:\nHeadline: Cup final.", [Example({"text": "Cup final."}, "sport")]),
        ("Here is where it ends: the cup.", [Example({"text": "Here is where it ends: the cup."}, "sport")]),
        (
            "Cup final.\nHeadline: Shares.",
            [Example({"text": "Cup final."}, "sport"), Rejection("run_on", "Shares.", "sport")],
        ),
        ("  ", [Rejection("empty", "", "sport")]),
    ],
)
def test_a_reply_is_the_text(reply: str, outcomes: list[Example | Rejection]) -> None:
    method = build(variant="zero_shot")
    assert worked(method, planned(method, 1)[0], Teacher(lambda prompt: reply)) == outcomes


def test_a_text_that_was_cut_off_is_refused() -> None:
    method = build(variant="zero_shot")
    outcomes = worked(method, planned(method, 1)[0], lister("Cup fi", "length"))
    assert outcomes == [Rejection("cut_off", "Cup fi", "sport")]


@pytest.mark.parametrize(
    ("reply", "reason", "outcome"),
    [
        (json.dumps(PAIR), "stop", Example(PAIR, "entailment")),
        (f"Sure:\n```json\n{json.dumps(PAIR)}\n```", "stop", Example(PAIR, "entailment")),
        ("A ship left.", "stop", "unparsed"),
        ('{"text": "A ship left."}', "stop", "misfit"),
        ('{"text": "A ship left.", "hypothesis": " "}', "stop", "empty"),
        ('{"text": "A ship', "length", "cut_off"),
        ("", "stop", "empty"),
    ],
)
def test_an_example_of_several_fields_is_read_from_json(
    reply: str, reason: str, outcome: Example | str
) -> None:
    method, teacher = build(pairs(), variant="zero_shot"), lister(reply, reason)
    expected = Rejection(outcome, reply, "entailment") if isinstance(outcome, str) else outcome
    assert worked(method, planned(method, 1)[0], teacher) == [expected]
    assert teacher.asked[0][1].structure is not None


def test_a_continuation_stops_at_the_next_header_and_a_chat_where_the_recipe_says() -> None:
    for render, stop in (("raw", ("\nHeadline:", "\n\n")), ("chat", ("\n\n",))):
        method, teacher = build(variant="zero_shot", render=render, stop=["\n\n"]), lister("A.")
        worked(method, planned(method, 1)[0], teacher)
        assert teacher.asked[0][1].stop == stop


def test_too_few_seeds_are_told_with_label_numbers_and_remedy() -> None:
    with pytest.raises(SettingsError) as caught:
        build(headlines(seeds=4), variant="few_shot_5")
    assert str(caught.value) == (
        "method.variant: few_shot_5 shows 5 seeds of a label, label sport has 4; "
        "add seeds or take another variant"
    )
    assert build(headlines(seeds=3), variant="few_shot_3")


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_variants_that_show_examples_want_seeds(variant: str) -> None:
    settings: MethodSettings = ICLSettings.model_validate({"variant": variant})
    assert settings.wants_seeds() == ("one" in variant or "few" in variant)
    if not settings.wants_seeds():
        assert build(headlines(seeds=0), variant=variant)


@pytest.mark.parametrize("wrong", [{"request": "{{ topik }}"}, {"topic_request": "{{ label }"}])
def test_a_template_that_fails_is_refused_before_anything_is_asked(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="prompt template"):
        build(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"variant": "ten_shot"}, {"topics": 1}, {"topics_for": "row"}, {"topic": 3}]
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ICLSettings.model_validate(wrong)


def test_what_users_write_is_shown_as_it_is() -> None:
    odd = {'say "hi" {{ x }}': "{% if %} {braces} #1", "日本\nlabel": "naïve: {0}"}
    method, sources = topical(headlines(labels=odd), topics_for="label")
    for item in planned(method, 2, sources):
        assert odd[item.labels[0]] in as_text(method.prompt(item))
