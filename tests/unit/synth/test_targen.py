"""TarGEN: what is listed first, whose turn it is, the prompts, and what is made of every kind of reply."""

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from synth.method import Sources
from synth.methods.targen import TarGEN, TarGENSettings
from synth.prompting import as_text
from synth.records import Example, Item, Rejection, Reply, make_item
from synth.structured import RETRY_TEMPERATURE
from synth.task import Task
from tests.unit.synth.method_desk import (
    Teacher,
    headlines,
    is_golden,
    pairs,
    planned,
    prepared,
    worked,
)

SMALL = {"contexts": 4, "contexts_per_call": 2, "seeds_per_context": 3}
WHY, TEXT, CLAIM = "It says so.", "The bridge opened in May.", "The bridge is open."


def build(task: Task, **settings: Any) -> TarGEN:
    method = TarGENSettings.model_validate(SMALL | settings).build(task)
    assert isinstance(method, TarGEN)
    return method


def lister(prompt: str) -> str:
    """Answer the prompts of `prepare`: as many entries as are asked for, none of them known."""
    count = int(re.findall(r"numbered list of (\d+) ", prompt)[0])
    topic = re.findall(r"about this topic: (.*)", prompt)
    head = f"Sentence about {topic[0]}, number" if topic else "Place"
    first = 1 + prompt.count("Place ") if not topic else 1
    return "Here you are:\n\n" + "".join(f"{n}. {head} {n}\n" for n in range(first, first + count))


def sources(method: TarGEN) -> Sources:
    return prepared(method, Teacher(lister))


def item(label: str, **attributes: str) -> Item:
    given = {"context": "a town council", "seed_sentence": "The council met on Monday."} | attributes
    return make_item("key", 0, 0, (label,), attributes=given)


def generation(**changes: str) -> str:
    return json.dumps({"explanation": WHY, "text": TEXT, "hypothesis": CLAIM} | changes)


def verdict(label: str) -> str:
    return json.dumps({"explanation": "Read again.", "label": label})


def answering(first: str | Reply, *corrections: str | Reply) -> Callable[[str], str | Reply]:
    """Answer a generation, then the corrections one after the other."""
    left = iter(corrections)
    return lambda prompt: next(left) if "may be wrong" in prompt else first


def outcome(
    first: str | Reply, *corrections: str | Reply, label: str = "entailment", **settings: Any
) -> tuple[Example | Rejection, Teacher]:
    method, teacher = build(pairs(0), **settings), Teacher(answering(first, *corrections))
    (only,) = worked(method, item(label), teacher)
    return only, teacher


@pytest.mark.parametrize("render", ["chat", "raw"])
def test_the_prompts_are_the_golden_ones(render: str) -> None:
    method, one = build(pairs(0), render=render), build(headlines(), demonstrations=2, render=render)
    assert is_golden(method.contexts_prompt(2), f"targen_contexts_{render}")
    assert is_golden(method.contexts_prompt(2, ["a harbour", "chess"]), f"targen_more_contexts_{render}")
    assert is_golden(method.seeds_prompt("a harbour"), f"targen_seeds_{render}")
    assert is_golden(method.prompt(item("neutral")), f"targen_pair_{render}")
    asked = item("trade", variant="It is about a loss.")
    assert is_golden(one.prompt(asked), f"targen_demonstrations_{render}")
    shown = {"text": TEXT, "hypothesis": CLAIM}
    assert is_golden(method.correction_prompt(shown, "neutral"), f"targen_correction_{render}")


def test_contexts_and_then_the_seeds_of_each_are_listed_once() -> None:
    method, teacher = build(pairs(0)), Teacher(lister)
    made = prepared(method, teacher)
    assert made["contexts"].to_pydict() == {"context": [f"Place {n}" for n in range(1, 5)]}
    seeds = made["seeds"].to_pylist()
    assert Counter(row["context"] for row in seeds) == {f"Place {n}": 3 for n in range(1, 5)}
    assert seeds[4] == {"context": "Place 2", "seed": "Sentence about Place 2, number 2"}
    assert made["stages"].to_pylist() == [
        {"stage": "contexts", "asked": 4, "got": 4, "replies": 2, "unread": 0},
        {"stage": "instance seeds", "asked": 12, "got": 12, "replies": 4, "unread": 0},
    ]
    # 2 calls for contexts and one for each of the 4: amortised over the 12 seeds, half a call an example.
    assert len(teacher.asked) == 2 + 4
    assert "These topics are taken" not in teacher.prompts[0] and "Place 1; Place 2" in teacher.prompts[1]
    assert {sampling.max_tokens for _, sampling in teacher.asked} == {1000}


def test_an_example_costs_two_calls_and_one_without_correction() -> None:
    for correct, calls in ((True, 2), (False, 1)):
        made, teacher = outcome(generation(), verdict("entailment"), correct=correct)
        assert isinstance(made, Example) and len(teacher.asked) == calls


def test_lists_that_cannot_be_read_are_asked_for_again_and_counted() -> None:
    tries = Counter[str]()

    def stubborn(prompt: str) -> str:
        tries[prompt] += 1
        if "topic: Place 3" in prompt:
            return "I would rather not."
        return lister(prompt) if tries[prompt] > 1 else "Let me think."

    method, teacher = build(pairs(0), sampling={"temperature": 0}), Teacher(stubborn)
    made = prepared(method, teacher)
    assert set(made["seeds"]["context"].to_pylist()) == {"Place 1", "Place 2", "Place 4"}
    assert made["stages"].to_pylist() == [
        {"stage": "contexts", "asked": 4, "got": 4, "replies": 4, "unread": 2},
        {"stage": "instance seeds", "asked": 12, "got": 9, "replies": 9, "unread": 6},
    ]
    # Greedily, the same prompt would bring the same reply again.
    assert [sampling.temperature for _, sampling in teacher.asked[:2]] == [0, RETRY_TEMPERATURE]


def test_short_and_repeating_lists_of_contexts_are_made_up_for_up_to_a_bound() -> None:
    method, teacher = (
        build(pairs(0), contexts=6),
        Teacher(lambda p: lister(p) if "this topic" in p else "1. Sea\n2. sea"),
    )
    assert prepared(method, teacher)["contexts"].to_pydict() == {"context": ["Sea"]}
    made = []

    def one_each(prompt: str) -> str:
        made.append(prompt)
        return lister(prompt) if "this topic" in prompt else f"1. Place {len(made)}"

    stages = prepared(method, Teacher(one_each))["stages"].to_pylist()
    assert (stages[0]["asked"], stages[0]["got"], stages[0]["replies"]) == (6, 5, 5)


def test_entries_that_were_cut_off_or_ran_away_are_left_out() -> None:
    def cut(prompt: str) -> Reply:
        if "this topic" in prompt:
            return Reply(f"1. One.\n2. {'long ' * 200}\n3. Tw", "length", 1, 1)
        return Reply(f"1. Sea\n2. {'very ' * 30}", "stop", 1, 1)

    made = prepared(build(pairs(0), contexts=1, contexts_per_call=2), Teacher(cut))
    assert made["seeds"].to_pylist() == [{"context": "Sea", "seed": "One."}]


@pytest.mark.parametrize(("good", "named"), [("", "contexts"), ("can be about", "instance seeds")])
def test_a_teacher_that_lists_nothing_is_told_with_its_words_and_a_remedy(good: str, named: str) -> None:
    def useless(prompt: str) -> str:
        return lister(prompt) if good and good in prompt else "I cannot\nhelp " + "x" * 500

    with pytest.raises(RunError, match=named) as caught:
        prepared(build(pairs(0)), Teacher(useless))
    said = str(caught.value)
    assert "I cannot\\nhelp xxx" in said and "larger teacher" in said and len(said) < 500


def test_labels_take_turns_and_every_label_gets_every_seed_before_one_twice() -> None:
    method = build(pairs(0))
    made = sources(method)
    items = planned(method, 72, made)
    assert [each.labels[0] for each in items[:4]] == ["entailment", "neutral"] * 2
    assert method.capacity(made) is None
    for label in method.task.labels:
        mine = [each for each in items if each.labels == (label,)]
        assert [each.draw for each in mine] == [0] * 12 + [1] * 12 + [2] * 12
        seeds = [each.attributes["seed_sentence"] for each in mine]
        assert set(seeds[:12]) == set(seeds[12:24]) == set(made["seeds"]["seed"].to_pylist())
        # Contexts take turns: each is as likely, however many seeds it has.
        assert len({each.attributes["context"] for each in mine[:4]}) == 4
        assert all(each.attributes["context"] in each.attributes["seed_sentence"] for each in mine)
    first = [[each.attributes["seed_sentence"] for each in items[n:12:2]] for n in (0, 1)]
    assert not set(first[0]) & set(first[1])
    assert list(items[0].attributes) == ["context", "seed_sentence"]


def test_the_plan_is_the_same_each_time_and_another_in_each_round_and_with_other_settings() -> None:
    method = build(pairs(0))
    made = sources(method)
    first = planned(method, 40, made)
    assert planned(method, 60, made)[:40] == planned(build(pairs(0)), 40, made) == first
    for others in (planned(method, 40, made, round=1), planned(build(pairs(0), correct=False), 40, made)):
        assert not {each.id for each in others} & {each.id for each in first}
        assert [each.attributes for each in others] != [each.attributes for each in first]


def test_eighty_odd_labels_and_one_seed_are_planned_too() -> None:
    labels = {f'{n} "{{x}} #\n%}} é': f"kind {{{{ {n} }}}}" for n in range(80)}
    method = build(headlines(0, labels), contexts=1, seeds_per_context=1)
    items = planned(method, 161, sources(method))
    assert [each.labels[0] for each in items[:80]] == list(labels)
    assert [each.draw for each in items[::80]] == [0, 1, 2]
    text = as_text(method.prompt(items[3]))
    assert list(labels)[3] in text and "kind {{ 3 }}" in text
    made = worked(
        method, items[3], Teacher(answering('{"explanation": "e", "text": "A b."}', verdict(list(labels)[5])))
    )
    assert [each.label for each in made] == [list(labels)[5]]


def test_variants_take_turns_and_a_seed_meets_each() -> None:
    method = build(pairs(0), variants=["Cause.", "Effect."])
    items = [each for each in planned(method, 48, sources(method)) if each.labels == ("neutral",)]
    assert Counter(each.attributes["variant"] for each in items) == {"Cause.": 12, "Effect.": 12}
    met = {(each.attributes["seed_sentence"], each.attributes["variant"]) for each in items}
    assert len(met) == 24
    assert "\nEffect.\n" in as_text(method.prompt(items[1]))


def test_demonstrations_are_the_same_gold_rows_of_the_label_each_time() -> None:
    method = build(pairs(), demonstrations=2)
    for each in planned(method, 10, sources(method)):
        label = each.labels[0]
        assert [shot.id for shot in each.shots] == [f"{label}0", f"{label}1"]
        assert each.shots[0].text == f"Gold text {label} 0.\nHypothesis: Gold hypothesis {label} 0."
        assert f"hypothesis: Gold hypothesis {label} 1." in as_text(method.prompt(each))


def test_too_few_gold_rows_for_demonstrations_are_told() -> None:
    with pytest.raises(
        SettingsError, match=r"method\.demonstrations: 7 are asked for, label entailment has 6 seeds"
    ):
        build(pairs(6), demonstrations=7)
    assert build(pairs(6), demonstrations=6).settings.wants_seeds()
    assert not build(pairs(0)).settings.wants_seeds()


@pytest.mark.parametrize(
    ("then", "made"),
    [
        ("replace", ("neutral", {"relabelled": "yes", "corrected_label": "neutral"})),
        ("record", ("entailment", {"relabelled": "yes", "corrected_label": "neutral"})),
        ("reject", None),
    ],
)
def test_an_example_found_to_have_another_label(then: str, made: tuple[str, dict[str, str]] | None) -> None:
    found, _ = outcome(generation(), verdict("neutral"), then=then)
    if made is None:
        assert found == Rejection("correction: relabelled", f"{TEXT}\n{CLAIM}", "entailment")
        return
    extra = {"explanation": WHY, "asked_label": "entailment", "correction": "Read again."} | made[1]
    assert found == Example({"text": TEXT, "hypothesis": CLAIM}, made[0], extra)


def test_an_example_that_keeps_its_label_says_so() -> None:
    found, teacher = outcome(generation(), verdict("entailment"))
    assert isinstance(found, Example)
    assert (found.label, found.extra["relabelled"], found.extra["asked_label"]) == (
        "entailment",
        "no",
        "entailment",
    )
    first, second = (sampling for _, sampling in teacher.asked)
    assert (first.temperature, first.top_p, first.max_tokens) == (0.7, 1.0, 512)
    assert (second.temperature, second.max_tokens) == (0.0, 200)
    schemas = [
        json.loads(str(sampling.structure and sampling.structure.json_schema)) for sampling in (first, second)
    ]
    assert [list(schema["properties"]) for schema in schemas] == [
        ["explanation", "text", "hypothesis"],
        ["explanation", "label"],
    ]
    assert schemas[1]["properties"]["label"]["enum"] == ["entailment", "neutral"]


def test_without_correction_the_label_is_the_one_asked_for() -> None:
    found, _ = outcome(f"Sure:\n```json\n{generation()}\n```", correct=False)
    assert found == Example({"text": TEXT, "hypothesis": CLAIM}, "entailment", {"explanation": WHY})


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("", "generation: empty"),
        ("The council met on Monday.", "generation: unparsed"),
        (json.dumps({"explanation": WHY, "text": TEXT}), "generation: misfit"),
        (generation(text=""), "generation: misfit"),
        (generation(text="  "), "generation: empty"),
        (generation(text="...", hypothesis="..."), "generation: empty"),
        (Reply(generation()[:40], "length", 1, 1), "generation: cut_off"),
    ],
)
def test_a_generation_that_cannot_be_read_is_asked_for_once_and_rejected(
    reply: str | Reply, reason: str
) -> None:
    found, teacher = outcome(reply, verdict("neutral"))
    text = reply if isinstance(reply, str) else reply.text
    assert found == Rejection(reason, text, "entailment")
    assert len(teacher.asked) == 1


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Well.", "Hm.", "Both."], "correction: unparsed"),
        (["", "", ""], "correction: empty"),
        (["", "", verdict("maybe")], "correction: misfit"),
        (["", "", Reply('{"explanation": "It', "length", 1, 1)], "correction: cut_off"),
    ],
)
def test_a_correction_that_cannot_be_read_is_asked_for_again_and_then_rejected(
    replies: Sequence[str | Reply], reason: str
) -> None:
    found, teacher = outcome(generation(), *replies)
    assert found == Rejection(reason, f"{TEXT}\n{CLAIM}", "entailment")
    assert len(teacher.asked) == 1 + 3
    kept, _ = outcome(generation(), *replies, unread="keep")
    assert isinstance(kept, Example)
    assert (kept.label, kept.extra["relabelled"]) == ("entailment", "unknown")
    read, teacher = outcome(generation(), replies[0], verdict("Neutral"))
    assert isinstance(read, Example) and read.label == "neutral" and len(teacher.asked) == 3


def test_a_field_may_be_called_explanation() -> None:
    plain = pairs(0).settings
    fields = {"text": "a claim", "explanation": "why it holds"}
    settings = plain.model_validate(plain.model_dump() | {"fields": fields, "field_types": {}})
    method = build(Task(settings, ()), correct=False)
    reply = json.dumps({"explanation_": WHY, "text": TEXT, "explanation": CLAIM})
    made = worked(method, item("neutral"), Teacher(lambda _: reply))
    assert made == [Example({"text": TEXT, "explanation": CLAIM}, "neutral", {"explanation": WHY})]
    assert '{"explanation_": "...", "text": "...", "explanation": "..."}' in as_text(
        method.prompt(item("neutral"))
    )


def test_the_published_code_takes_one_sentence_of_each_of_a_hundred_contexts() -> None:
    settings = TarGENSettings(preset="published_code")
    assert (settings.contexts, settings.seeds_per_context, settings.correct) == (100, 1, True)
    assert TarGENSettings(preset="published_code", contexts=7).contexts == 7
    # A recipe that sets one value of the sampling leaves the others at the method's.
    assert TarGENSettings.model_validate({"sampling": {"top_p": 0.5}}).sampling.max_tokens == 512
