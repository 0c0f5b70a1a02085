"""ProGen: rounds of ZeroGen, with the rows that helped a student most as shots of half of the prompts."""

from collections import Counter
from collections.abc import Mapping
from itertools import count, islice, pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import SettingsError
from jobs.recipe import load_recipe
from synth.method import Feedback, Sources
from synth.methods.progen import ProGen, ProGenSettings
from synth.methods.zerogen import ZeroGenSettings
from synth.prompting import as_text
from synth.records import Example, Item, Prompt, Rejection, Sampling, Shot
from synth.task import Task
from tests.unit.synth.method_desk import ODD, Teacher, headlines, is_golden, pairs, planned, prepared, worked

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"
LONG = "The old town celebrated its team with a parade through every street of it."
WRITTEN = Sampling(temperature=1.0, top_p=0.9, max_tokens=100, stop=('"',))


def build(task: Task | None = None, **settings: Any) -> ProGen:
    method = ProGenSettings.model_validate(settings).build(task or headlines())
    assert isinstance(method, ProGen)
    return method


def rows(task: Task, of_each: int = 20) -> pa.Table:
    """The dataset so far: so many rows of each label."""
    each = [(label, n) for n in range(of_each) for label in task.labels]
    columns: dict[str, list[str]] = {"row_id": [f"{label}/{n}" for label, n in each]}
    for name in task.settings.fields:
        columns[name] = [f"{name} {n} of {place}" for place, (_, n) in enumerate(each)]
    return pa.table(columns | {"label": [label for label, _ in each]})


def influence(given: pa.Table, helpful: Mapping[str, int]) -> pa.Table:
    """The rows backwards, so many of each label helpful."""
    told, left = [], dict(helpful)
    for row in reversed(given.to_pylist()):
        left[row["label"]] = left.get(row["label"], 0) - 1
        value = -1.0 if left[row["label"]] >= 0 else 0.5
        told.append({name: row[name] for name in ("row_id", "text", "label")} | {"influence": value})
    return pa.Table.from_pylist(sorted(told, key=lambda row: row["influence"]))


def items(method: ProGen, number: int, feedback: Feedback, sources: Sources | None = None) -> list[Item]:
    slots = list(islice(method.plan(sources or {}, 1, feedback), number))
    built = [slot.build() for slot in slots]
    assert [(item.round, item.position, item.labels) for item in built] == [(1, *slot[:2]) for slot in slots]
    assert len({item.id for item in built}) == len(built)
    return built


def towns(method: ProGen, different: int = 5) -> Sources:
    numbers = count()
    return prepared(method, Teacher(lambda _: f" Town {next(numbers) % different} "))


def golden_prompts() -> dict[str, Prompt]:
    """Every prompt with shots, by the name of its golden file."""
    prompts: dict[str, Prompt] = {}
    for render in ("raw", "chat"):
        shots: tuple[Shot, ...] = (
            Shot("a", 'The "Blues" win the cup.'),
            Shot("b", "A coach leaves after 30 years."),
        )
        prompts[f"progen_shots_{render}"] = asked(
            build(condition="town", render=render), "sport", "Oslo", shots
        )
    shots = (Shot("c", "The mayor was there.", "A bridge was opened."),)
    method = build(pairs(), condition_field="text")
    prompts["progen_pair_raw"] = asked(method, "neutral", "A ferry sank off the coast.", shots)
    return prompts


def asked(method: ProGen, label: str, condition: str | None, shots: tuple[Shot, ...]) -> Prompt:
    given = {} if condition is None else {"condition": condition}
    teacher = Teacher(lambda _: LONG)
    worked(method, Item("i", 1, 0, (label,), shots=shots, attributes=given), teacher)
    return teacher.asked[0][0]


# Rounds


def ends(targets: Mapping[str, int], **settings: Any) -> list[dict[str, int]]:
    return [dict(each.targets) for each in ProGenSettings.model_validate(settings).rounds(targets)]


@pytest.mark.parametrize("every", [1, 3, 7, 10, 1000])
@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize(
    "targets", [{"a": 10, "b": 10}, {"a": 9, "b": 0, "c": 1}, {"a": 1, "b": 30}, {"a": 0}, {"a": 5, "b": 5}]
)
def test_rounds_grow_to_the_targets_and_no_further(
    targets: dict[str, int], growing: bool, every: int
) -> None:
    found = ends(targets, every=every, growing=growing)
    assert found[-1] == targets
    assert all(list(each) == list(targets) for each in found)
    for before, after in pairwise(found):
        assert all(before[label] <= after[label] for label in targets)
        assert sum(before.values()) < sum(after.values())
    for each in found:
        assert not any(rows and not each[label] for label, rows in targets.items())


def test_labels_grow_in_proportion_to_their_targets() -> None:
    assert ends({"a": 30, "b": 10}, every=8) == [
        {"a": 6, "b": 2},
        {"a": 12, "b": 4},
        {"a": 18, "b": 6},
        {"a": 24, "b": 8},
        {"a": 30, "b": 10},
    ]
    assert ends({"a": 5, "b": 5}, every=3) == [
        {"a": 2, "b": 2},
        {"a": 3, "b": 3},
        {"a": 5, "b": 5},
    ]


@pytest.mark.parametrize("growing", [False, True])
def test_more_rows_leave_all_rounds_but_the_last_as_they_were(growing: bool) -> None:
    fewer, more = ({"a": n, "b": 2 * n, "c": n} for n in (250, 1000))
    settings = ProGenSettings(every=70, growing=growing)
    before, after = settings.rounds(fewer), settings.rounds(more)
    assert len(before) > 3
    assert after[: len(before) - 1] == before[:-1]
    assert len(after) > len(before)
    last, grown = before[-1], after[len(before) - 1]
    assert grown.lessons == last.lessons
    assert all(grown.targets[label] >= last.targets[label] for label in "abc")


def test_the_papers_rounds_have_a_thousand_rows_each_and_all_but_the_first_ask_for_influence() -> None:
    rounds = ProGenSettings().rounds({"a": 50_000, "b": 50_000})
    assert [sum(each.targets.values()) for each in rounds] == list(range(1000, 101_000, 1000))
    assert [each.lessons for each in rounds] == [(), *[("influence",)] * 99]


def test_the_published_rounds_grow_and_their_first_shots_are_random() -> None:
    settings = ProGenSettings(preset="published_code")
    rounds = settings.rounds({"a": 100_000, "b": 100_000})
    rows = [sum(each.targets.values()) for each in rounds]
    assert rows == [100, 400, 1200, 3200, 8000, 19_200, 44_800, 102_400, 200_000]
    assert [each.lessons for each in rounds] == [()] * 6 + [("influence",)] * 3
    assert (settings.samples, settings.conditions, settings.every) == (2, 200_000, 100)
    assert ProGenSettings(preset="published_code", every=7).every == 7


# Planning


def test_the_first_round_is_zerogens() -> None:
    method = build(condition="town", conditions=20)
    sources = towns(method)
    plain = ZeroGenSettings(condition="town", conditions=20).build(headlines())
    told = [(item.labels, item.draw, item.attributes) for item in planned(method, 200, sources)]
    ours = planned(method, 200, sources)
    assert not any(item.shots for item in ours)
    assert sorted(told, key=str) == sorted(
        ((item.labels, item.draw, item.attributes) for item in planned(plain, 200, sources)), key=str
    )
    assert method.capacity(sources) == plain.capacity(sources)
    assert build().capacity({}) is None


def test_half_of_the_items_show_eight_of_the_fifty_most_helpful_rows_of_their_label() -> None:
    method, given = build(), rows(headlines(), of_each=200)
    feedback = {"rows": given, "influence": influence(given, {"sport": 120, "trade": 120})}
    found = items(method, 2000, feedback)
    shown = [item for item in found if item.shots]
    assert 900 < len(shown) < 1100
    assert {len(item.shots) for item in shown} == {8}
    texts = dict(zip(given["row_id"].to_pylist(), given["text"].to_pylist(), strict=True))
    for item in shown:
        assert len({shot.id for shot in item.shots}) == 8
        assert all(shot.id.startswith(f"{item.labels[0]}/") for shot in item.shots)
        assert [shot.text for shot in item.shots] == [texts[shot.id] for shot in item.shots]
    served = Counter(shot.id for item in shown for shot in item.shots)
    # The most helpful are the last rows, as the table has it.
    assert set(served) == {f"{label}/{n}" for label in ("sport", "trade") for n in range(150, 200)}


def test_only_helpful_rows_are_shown_and_a_label_without_any_is_asked_for_plainly() -> None:
    method, given = build(share=1), rows(headlines())
    feedback = {"rows": given, "influence": influence(given, {"sport": 3})}
    for item in items(method, 40, feedback):
        ids = {shot.id for shot in item.shots}
        assert ids == ({"sport/19", "sport/18", "sport/17"} if item.labels == ("sport",) else set())


def test_without_influence_all_rows_of_the_label_may_be_shown() -> None:
    found = items(build(share=1, shots=3, pool=5), 400, {"rows": rows(headlines())})
    assert {len(item.shots) for item in found} == {3}
    assert {shot.id for item in found for shot in item.shots if item.labels == ("trade",)} == {
        f"trade/{n}" for n in range(20)
    }
    none = {"rows": rows(headlines(), of_each=0)}
    assert not any(item.shots for item in items(build(share=1), 10, none))


def test_a_rows_shot_is_of_the_field_that_is_written_beside_what_was_given() -> None:
    method = build(pairs(), condition_field="text", share=1, shots=1)
    sources = prepared(method, Teacher(lambda _: ""))
    (item, *_) = items(method, 4, {"rows": rows(pairs())}, sources)
    (shot,) = item.shots
    assert shot.text.startswith("hypothesis ")
    assert (shot.document or "").removeprefix("text ") == shot.text.removeprefix("hypothesis ")
    assert item.seed_id is not None
    assert item.attributes["condition"].startswith("Gold text")


def test_the_plan_is_the_same_each_time_in_any_order() -> None:
    feedback = {"rows": rows(headlines())}
    method = build(condition="town", conditions=20)
    sources = towns(method)
    first = items(method, 60, feedback, sources)
    assert items(build(condition="town", conditions=20), 60, feedback, sources) == first
    slots = list(islice(method.plan(sources, 1, feedback), 60))
    assert [slot.build() for slot in reversed(slots)] == first[::-1]
    assert any(item.shots for item in first)
    ids = {item.id for item in first}
    assert not ids & {item.id for item in planned(method, 60, sources)}
    # Other shots make another item.
    fewer = items(method, 60, {"rows": rows(headlines(), of_each=9)}, sources)
    assert {item.id for item in fewer if item.shots}.isdisjoint(ids)
    assert {item.id for item in fewer if not item.shots} == {item.id for item in first if not item.shots}


def test_calls_per_example_are_zerogens_in_every_round() -> None:
    method = build(condition="town", conditions=6)
    numbers = count()
    teacher = Teacher(lambda prompt: LONG if "about" in prompt else f"Town {next(numbers)}")
    sources = prepared(method, teacher)
    found = [*planned(method, 1000, sources), *items(method, 1000, {"rows": rows(headlines())}, sources)]
    examples = [each for item in found for each in worked(method, item, teacher)]
    assert {type(each) for each in examples} == {Example}
    # Conditions are asked for once for all rounds.
    assert len(teacher.asked) / len(examples) == 1 + 1 / (32 * 2 * 2)


# Prompts and replies


@pytest.mark.parametrize("name", ["progen_shots_raw", "progen_shots_chat", "progen_pair_raw"])
def test_the_prompt_is_the_golden_one(name: str) -> None:
    assert is_golden(golden_prompts()[name], name)


def test_prompts_without_shots_are_zerogens() -> None:
    assert is_golden(asked(build(condition="town"), "sport", 'Bad "Ems"', ()), "zerogen_condition_raw")


def test_texts_are_asked_for_with_the_papers_sampling() -> None:
    teacher = Teacher(lambda _: LONG)
    (item,) = items(build(share=1), 1, {"rows": rows(headlines())})
    assert worked(build(), item, teacher) == [Example({"text": LONG}, "sport")]
    assert [sampling for _, sampling in teacher.asked] == [WRITTEN]


def test_self_debiasing_sets_the_same_shots_above_the_other_labels_prompts() -> None:
    method, teacher = build(self_debiasing=True, share=1), Teacher(lambda _: LONG)
    assert method.settings.needs() == ProGenSettings(self_debiasing=True).needs() == {"self-debiasing"}
    (item,) = items(method, 1, {"rows": rows(headlines())})
    worked(method, item, teacher)
    ((prompt, sampling),) = teacher.asked
    assert sampling.against is not None
    (other,) = sampling.against.prompts
    assert isinstance(prompt, str)
    assert other == prompt.replace("a match or an athlete", "companies and markets") != prompt


@pytest.mark.parametrize(
    ("reply", "overlaps"),
    [
        ("One two three, four five six: seven eight NINE ten!", True),
        ("Ten nine eight seven six five four three two none at all", True),
        ("Ten nine eight seven six five four three or none at all", False),
        (LONG, False),
    ],
)
def test_a_text_with_nine_in_ten_of_a_shots_words_is_rejected(reply: str, overlaps: bool) -> None:
    shots = (Shot("x", "Another text."), Shot("y", "One two three four five six seven eight nine ten."))
    item = Item("i", 1, 0, ("sport",), shots=shots)
    wanted = Rejection("shot_overlap", reply, "sport") if overlaps else Example({"text": reply}, "sport")
    assert worked(build(), item, Teacher(lambda _: reply)) == [wanted]


def test_other_rejections_are_zerogens() -> None:
    item = Item("i", 1, 0, ("sport",), shots=(Shot("x", "Too short."),))
    assert worked(build(), item, Teacher(lambda _: "Too short.")) == [
        Rejection("few_words", "Too short.", "sport")
    ]


@pytest.mark.parametrize("render", ["raw", "chat"])
def test_labels_of_any_name_are_written_for(render: str) -> None:
    task = headlines(labels=ODD)
    method = build(task, share=1, render=render)
    for item in items(method, 8, {"rows": rows(task)}):
        teacher = Teacher(lambda _: LONG)
        assert worked(method, item, teacher) == [Example({"text": LONG}, item.labels[0])]
        assert ODD[item.labels[0]] in teacher.prompts[0]
        assert item.shots[0].text in teacher.prompts[0]


# Settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"every": 0}, "every"),
        ({"share": 1.5}, "share"),
        ({"shots": 0}, "shots"),
        ({"condition": "town", "condition_field": "text"}, "not both"),
        ({"self_debiasing": True, "render": "chat"}, "render to raw"),
        ({"preset": "none"}, "published_code"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        ProGenSettings.model_validate(settings)


def test_what_does_not_fit_the_task_is_refused_at_once() -> None:
    wrong: list[tuple[Task, dict[str, str], str]] = [
        (headlines(), {"sample": "{{ nonsense }}"}, "nonsense"),
        (pairs(), {}, "say which one is taken from the seeds"),
        (pairs(seeds=0), {"condition_field": "text"}, "task.seeds"),
    ]
    for task, settings, said in wrong:
        with pytest.raises(SettingsError, match=said):
            build(task, **settings)
    assert ProGenSettings(condition_field="text").wants_seeds()
    assert not ProGenSettings(condition="town").wants_seeds()


def test_shots_are_shown_as_they_are() -> None:
    shown = build().shown((Shot("a", "{{ x }}"), Shot("b", "日本語 – ü")))
    assert shown == 'Headline: "{{ x }}"\n\nHeadline: "日本語 – ü"'
    assert "about" not in as_text(shown)


@pytest.mark.parametrize("name", ["progen", "production/progen"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.method.name == "progen"
    assert not recipe.method.needs() - recipe.teacher.abilities
    assert len(recipe.method.rounds(recipe.targets.quotas(("positive", "negative")))) > 2
