"""ZeroGen: conditions made up or taken from seeds, open-quoted prompts, and what is cut out of replies."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from jobs.recipe import load_recipe
from jobs.stage import check
from synth.method import Sources
from synth.methods.zerogen import ZeroGen, ZeroGenSettings
from synth.records import Against, Example, Item, Prompt, Rejection, Reply, Sampling
from synth.task import Task
from tests.unit.synth.method_desk import Teacher, headlines, is_golden, pairs, planned, prepared, worked

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"
LONG = "The old town celebrated its team with a parade through every street of it."
DRAWN = Sampling(temperature=1.0, top_p=0.9, max_tokens=10, stop=('"',))
WRITTEN = Sampling(temperature=1.0, top_p=0.9, max_tokens=40, stop=('"',))


def build(task: Task | None = None, **settings: Any) -> ZeroGen:
    method = ZeroGenSettings.model_validate(settings).build(task or headlines())
    assert isinstance(method, ZeroGen)
    return method


def towns(method: ZeroGen, different: int = 5) -> Sources:
    numbers = count()
    return prepared(method, Teacher(lambda _: f" Town {next(numbers) % different} "))


def told(sources: Sources) -> list[tuple[str, int, int]]:
    return [(row["stage"], row["asked"], row["got"]) for row in sources["stages"].to_pylist()]


def outcome(
    text: str, reason: str = "stop", task: Task | None = None, **settings: Any
) -> Example | Rejection:
    method = build(task, **settings)
    (item,) = planned(method, 1, towns(method))
    (only,) = worked(method, item, Teacher(lambda _: Reply(text, reason, 1, 1)))
    assert only.label == item.labels[0]
    return only


# Preparing


def test_conditions_are_drawn_from_an_open_quotation_mark_each_kept_once() -> None:
    replies = iter([" Rome ", 'Oslo" and', "Rome", "Kyoto\nBonn", "", " ... ", "Santiago de"])
    reasons = iter(["stop", "length", "stop", "length", "stop", "stop", "length"])
    teacher = Teacher(lambda _: Reply(next(replies), next(reasons), 1, 1))
    sources = prepared(build(condition="town", conditions=7), teacher)
    assert sources["conditions"].to_pylist() == [
        {"condition": town, "seed_id": None} for town in ("Rome", "Oslo", "Kyoto")
    ]
    assert told(sources) == [("conditions", 7, 4), ("distinct conditions", 4, 3)]
    assert teacher.asked == [('Town: "', DRAWN)] * 7


class Slower(Teacher):
    """Takes the less time the later it is asked."""

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        number = len(self.asked)
        self.asked.append((prompt, sampling))
        for _ in range(40 - 5 * number):
            await asyncio.sleep(0)
        return Reply(f"Town {number}", "stop", 1, 1)


def test_conditions_come_in_the_order_of_asking_whatever_the_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synth.methods.zerogen.AT_ONCE", 3)
    sources = prepared(build(condition="town", conditions=8), Slower(lambda _: ""))
    assert sources["conditions"]["condition"].to_pylist() == [f"Town {n}" for n in range(8)]


def test_conditions_of_a_chat_lose_the_marks_around_them() -> None:
    replies = iter(['"Rome"', "“Oslo”", "Paris"])
    method = build(condition="town", conditions=3, render="chat")
    teacher = Teacher(lambda _: next(replies))
    assert prepared(method, teacher)["conditions"]["condition"].to_pylist() == ["Rome", "Oslo", "Paris"]
    assert teacher.asked[0][1].stop == ()
    assert is_golden(teacher.asked[0][0], "zerogen_conditions_chat")


def test_no_condition_at_all_ends_the_run_with_what_the_teacher_wrote() -> None:
    with pytest.raises(RunError) as caught:
        prepared(
            build(condition="town", conditions=3), Teacher(lambda _: Reply("I am " * 99, "length", 1, 1))
        )
    said = str(caught.value)
    assert "stage conditions: none of 3 replies holds a town" in said
    assert repr(("I am " * 99)[:200]) in said
    assert "method.condition_tokens" in said


def test_conditions_of_pairs_are_the_seeds_texts_each_once() -> None:
    task = pairs(seeds=3)
    twice = replace(task.seeds[0], id="twin", fields={**task.seeds[0].fields, "hypothesis": "Another."})
    sources = prepared(
        build(Task(task.settings, (*task.seeds, twice)), condition_field="text"), Teacher(lambda _: "")
    )
    assert sources["conditions"].to_pylist() == [
        {"condition": seed.fields["text"], "seed_id": seed.id} for seed in task.seeds
    ]
    assert told(sources) == [("conditions", 7, 7), ("distinct conditions", 7, 6)]


# Planning


def test_without_conditions_labels_take_turns_without_end() -> None:
    method = build()
    assert prepared(method, Teacher(lambda _: "")) == {}
    items = planned(method, 501)
    assert Counter(item.labels[0] for item in items) == {"sport": 251, "trade": 250}
    assert not any(item.attributes for item in items)
    assert method.capacity({}) is None


def test_every_condition_serves_every_label_so_often_and_comes_in_turn() -> None:
    method = build(condition="town", conditions=20, samples=4)
    sources = towns(method)
    items = planned(method, 1000, sources)
    assert len(items) == 5 * 4 * 2
    assert method.capacity(sources) == {"sport": 20, "trade": 20}
    served = Counter((item.labels[0], item.attributes["condition"]) for item in items)
    assert set(served.values()) == {4}
    # The first rows of a label have conditions of their own, and another order each time round.
    rounds = [tuple(item.attributes["condition"] for item in items[n : n + 10 : 2]) for n in range(0, 40, 10)]
    assert {frozenset(each) for each in rounds} == {frozenset(f"Town {n}" for n in range(5))}
    assert len(set(rounds)) > 1
    assert [item.labels[0] for item in items[:4]] == ["sport", "trade", "sport", "trade"]


def test_the_plan_is_the_same_each_time_and_another_in_each_round() -> None:
    method = build(condition="town", conditions=20)
    sources = towns(method)
    first = planned(method, 60, sources)
    assert (
        planned(method, 60, sources) == planned(build(condition="town", conditions=20), 60, sources) == first
    )
    slots = list(islice(method.plan(sources, 0, {}), 60))
    assert [slot.build() for slot in reversed(slots)] == first[::-1]
    ids = {item.id for item in first}
    assert not ids & {item.id for item in planned(method, 60, sources, round=1)}
    assert not ids & {
        item.id for item in planned(build(condition="town", conditions=20, decay=3), 60, sources)
    }


@pytest.mark.parametrize("samples", [32, 3])
def test_calls_per_example_are_one_and_the_share_of_a_condition(samples: int) -> None:
    method = build(condition="town", conditions=6, **({} if samples == 32 else {"samples": samples}))
    numbers = count()
    teacher = Teacher(lambda prompt: LONG if "about" in prompt else f"Town {next(numbers)}")
    sources = prepared(method, teacher)
    items = planned(method, 1000, sources)
    examples = [each for item in items for each in worked(method, item, teacher)]
    assert {type(each) for each in examples} == {Example}
    assert len(teacher.asked) / len(examples) == 1 + 1 / (samples * 2)


# Prompts


@pytest.mark.parametrize("render", ["raw", "chat"])
@pytest.mark.parametrize("condition", [None, "town"])
def test_the_prompt_is_the_golden_one(condition: str | None, render: str) -> None:
    method = build(condition=condition, render=render)
    name = "plain" if condition is None else "condition"
    assert is_golden(method.prompt("sport", condition and 'Bad "Ems"'), f"zerogen_{name}_{render}")


def test_the_prompt_of_a_pair_is_the_golden_one() -> None:
    method = build(pairs(), condition_field="text")
    assert is_golden(
        method.prompt("neutral", "A ferry sank off the coast. Nobody was hurt."), "zerogen_pair_raw"
    )


def test_texts_are_asked_for_with_the_papers_sampling() -> None:
    method = build(condition="town", stop=["\n\n"])
    (item,) = planned(method, 1, towns(method))
    teacher = Teacher(lambda _: LONG)
    assert worked(method, item, teacher) == [Example({"text": LONG}, "sport")]
    assert teacher.asked == [
        (method.prompt("sport", item.attributes["condition"]), replace(WRITTEN, stop=('"', "\n\n")))
    ]
    assert item.attributes["condition"] in teacher.prompts[0]
    # What a recipe says of sampling leaves the rest at the paper's values.
    assert build(sampling={"max_tokens": 90}).sampling == replace(WRITTEN, max_tokens=90, stop=())


def test_pairs_get_the_condition_as_their_other_field_and_the_seed_they_are_from() -> None:
    method = build(pairs(), condition_field="text")
    items = planned(method, 8, prepared(method, Teacher(lambda _: "")))
    for item in items:
        (example,) = worked(method, item, Teacher(lambda _: LONG))
        assert isinstance(example, Example)
        assert list(example.fields.items()) == [("text", item.attributes["condition"]), ("hypothesis", LONG)]
    gold = {seed.id: seed.text for seed in pairs().seeds}
    assert [gold[item.seed_id or ""] for item in items] == [item.attributes["condition"] for item in items]
    # A premise serves all labels, whatever its own was.
    assert Counter(item.labels for item in items) == {("entailment",): 4, ("neutral",): 4}
    assert items[0].seed_id == items[1].seed_id


def test_the_field_written_may_be_the_main_one() -> None:
    method = build(pairs(), condition_field="hypothesis", samples=1)
    (item,) = planned(method, 1, prepared(method, Teacher(lambda _: "")))
    (example,) = worked(method, item, Teacher(lambda _: LONG))
    assert example == Example({"text": LONG, "hypothesis": item.attributes["condition"]}, "entailment")


# Replies

TEN = "one two three four five six seven eight nine ten"


@pytest.mark.parametrize(
    ("reply", "reason", "text"),
    [
        (f" {TEN} ", "stop", TEN),
        (f'{TEN}.\nAnd more" she said', "length", f"{TEN}.\nAnd more"),
        (f'{TEN}" and "more"', "stop", TEN),
        (f"{TEN}\nTown: Oslo", "stop", TEN),
        (f"{TEN}\nTown: Oslo", "length", TEN),
        (f"{TEN}. Then it. And so", "length", f"{TEN}. Then it."),
        (f"{TEN}! At 3.5 per", "length", f"{TEN}!"),
    ],
)
def test_a_text_ends_at_quotation_mark_line_end_or_sentence(reply: str, reason: str, text: str) -> None:
    assert outcome(reply, reason) == Example({"text": text}, "sport")


@pytest.mark.parametrize(
    ("reply", "reason", "why", "text"),
    [
        ("", "stop", "empty", ""),
        ('"', "stop", "empty", ""),
        ("\n", "length", "cut_off", ""),
        (f"{TEN} and no end", "length", "cut_off", f"{TEN} and no end"),
        ("only nine words of ten are in this text", "stop", "few_words", None),
        (f"Short one. {TEN}", "length", "few_words", "Short one."),
    ],
)
def test_a_reply_is_rejected_with_its_reason(reply: str, reason: str, why: str, text: str | None) -> None:
    assert outcome(reply, reason) == Rejection(why, reply if text is None else text, "sport")


def test_texts_of_a_chat_keep_their_quotation_marks() -> None:
    for reply in (f'"{TEN}."', f"“{TEN}.”", f"{TEN}."):
        assert outcome(reply, render="chat") == Example({"text": f"{TEN}."}, "sport")
    inside = f'"{TEN}", said "B"'
    assert outcome(inside, render="chat") == Example({"text": inside}, "sport")
    assert outcome(f'"{TEN}. And', "length", render="chat") == Example({"text": f"{TEN}."}, "sport")


def test_a_text_that_repeats_its_condition_is_rejected() -> None:
    method = build(condition="slogan", conditions=1)
    (item,) = planned(method, 1, prepared(method, Teacher(lambda _: TEN.title())))
    assert worked(method, item, Teacher(lambda _: f"{TEN} ")) == [
        Rejection("repeats_condition", TEN, "sport")
    ]


def test_questions_end_with_their_mark() -> None:
    asked = "Who of all the people in this town has won the cup?"
    assert outcome(f"{asked} And when", "length", question=True) == Example({"text": asked}, "sport")
    assert outcome(f"{TEN}.", question=True) == Rejection("no_question", f"{TEN}.", "sport")
    assert outcome(f'{TEN}" who?', question=True) == Rejection("no_question", TEN, "sport")


def test_the_fewest_words_are_a_setting() -> None:
    assert outcome("Cup final.", min_words=2) == Example({"text": "Cup final."}, "sport")


# Self-debiasing


def sent(item: Item, method: ZeroGen) -> Sampling:
    teacher = Teacher(lambda _: LONG)
    worked(method, item, teacher)
    return teacher.asked[0][1]


def test_self_debiasing_holds_a_text_against_the_prompts_of_all_other_labels() -> None:
    task = headlines(labels={"a": "one", "b": "two", "c": "three"})
    method = build(task, condition="town", self_debiasing=True)
    for item in planned(method, 6, towns(method)):
        town = item.attributes["condition"]
        others = tuple(method.prompt(label, town) for label in "abc" if label != item.labels[0])
        assert sent(item, method) == replace(WRITTEN, against=Against(others, 200, 0.01))  # type: ignore[arg-type]
    # By default, and for conditions, there is nothing to keep off from.
    plain = build(task, condition="town")
    assert sent(planned(plain, 1, towns(plain))[0], plain).against is None
    teacher = Teacher(lambda _: "Rome")
    prepared(method, teacher)
    assert teacher.asked[0][1].against is None


def test_self_debiasing_is_refused_where_the_teacher_cannot_do_it() -> None:
    assert build().settings.needs() == frozenset()
    recipe = RECIPES / "zerogen.yaml"
    for backend in ("vllm", "scripted"):
        asked = load_recipe(recipe, ("method.self_debiasing=true", f"teacher.backend={backend}"))
        with pytest.raises(SettingsError, match=f"{backend} cannot do what method zerogen.*self-debiasing"):
            check(asked)
    assert check(load_recipe(recipe, ("method.self_debiasing=true", "teacher.backend=transformers"))).revision


def test_call_ids_and_usage_are_what_they_were_without_it() -> None:
    assert "against" not in repr(Sampling(against=Against(("a",), 200, 0.01)))


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"condition": "town", "condition_field": "text"}, "not both"),
        ({"self_debiasing": True, "render": "chat"}, "render to raw"),
        ({"condition": ""}, "condition"),
        ({"floor": 0}, "floor"),
        ({"decay": 0}, "decay"),
        ({"preset": "none"}, "published_code"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ZeroGenSettings.model_validate(settings)


def test_fields_that_do_not_fit_the_task_are_told_with_a_remedy() -> None:
    wrong: list[tuple[Task, dict[str, str], str]] = [
        (pairs(), {}, "has text, hypothesis; say which one is taken from the seeds"),
        (pairs(), {"condition": "town"}, "say which one"),
        (pairs(), {"condition_field": "premise"}, "premise has to be one of the two fields"),
        (headlines(), {"condition_field": "text"}, "text has to be one of the two fields"),
        (pairs(seeds=0), {"condition_field": "text"}, "task.seeds"),
        (headlines(), {"request": "{{ nonsense }}"}, "nonsense"),
    ]
    for task, settings, said in wrong:
        with pytest.raises(SettingsError, match=said):
            build(task, **settings)
    assert ZeroGenSettings(condition_field="text").wants_seeds()
    assert not ZeroGenSettings(condition="town").wants_seeds()


def test_the_published_code_asks_for_more_conditions() -> None:
    assert ZeroGenSettings(preset="published_code").conditions == 800_000
    assert ZeroGenSettings(preset="published_code", conditions=5).conditions == 5


@pytest.mark.parametrize("name", ["zerogen", "production/zerogen"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.method.name == "zerogen"
    assert not recipe.method.needs() - recipe.teacher.abilities
