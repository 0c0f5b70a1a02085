"""SunGen: a round in which ZeroGen writes the pool, and one in which its rows are weighed."""

from itertools import count
from math import ceil
from pathlib import Path
from typing import Any

import pytest

from jobs.recipe import load_recipe
from synth.methods.sungen import SunGen, SunGenSettings
from synth.methods.zerogen import ZeroGenSettings
from synth.records import Example, Sampling
from synth.task import Task
from tests.unit.synth.method_desk import ODD, Teacher, headlines, is_golden, pairs, planned, prepared, worked

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"
LONG = "The old town celebrated its team with a parade through every street of it."
WRITTEN = Sampling(temperature=1.0, top_p=0.9, max_tokens=40, stop=('"',))


def build(task: Task | None = None, **settings: Any) -> SunGen:
    method = SunGenSettings.model_validate(settings).build(task or headlines())
    assert isinstance(method, SunGen)
    return method


@pytest.mark.parametrize("targets", [{"a": 10, "b": 7}, {"a": 0, "b": 3}, {"a": 1}])
@pytest.mark.parametrize("keep", ["filter", "both"])
@pytest.mark.parametrize(("pool", "of_ten"), [(4, 40), (1, 10), (1.1, 11), (2.55, 26)])
def test_the_pool_is_so_many_times_the_targets(
    targets: dict[str, int], keep: str, pool: float, of_ten: int
) -> None:
    first, last = SunGenSettings.model_validate({"keep": keep, "pool": pool}).rounds(targets)
    assert list(first.targets) == list(targets)
    for label, rows in targets.items():
        assert first.targets[label] == (of_ten if rows == 10 else ceil(rows * pool))
        assert first.targets[label] >= rows
    assert (first.lessons, last) == ((), (targets, ("weights",)))


def test_weights_alone_leave_no_row_out() -> None:
    first, last = SunGenSettings(keep="weights", pool=9).rounds({"a": 10, "b": 0})
    assert first == ({"a": 10, "b": 0}, ())
    assert last == ({"a": 10, "b": 0}, ("weights",))


@pytest.mark.parametrize(
    ("keep", "leave_out", "in_dataset"),
    [("filter", True, False), ("weights", False, True), ("both", True, True)],
)
def test_what_becomes_of_the_weights_is_a_setting(keep: str, leave_out: bool, in_dataset: bool) -> None:
    settings = SunGenSettings.model_validate({"keep": keep})
    assert (settings.weights_leave_out, settings.weights_in_dataset) == (leave_out, in_dataset)
    assert SunGenSettings.model_validate(settings.model_dump()) == settings


def test_the_default_filters_and_weighs() -> None:
    assert (SunGenSettings().keep, SunGenSettings().pool) == ("both", 4)
    code = SunGenSettings(preset="published_code")
    assert (code.keep, code.conditions) == ("weights", 800_000)
    assert SunGenSettings(preset="published_code", keep="filter").keep == "filter"


def test_the_pool_is_planned_and_written_as_zerogen_does_it() -> None:
    given: dict[str, Any] = {"condition": "town", "conditions": 20}
    method, plain = build(**given), ZeroGenSettings.model_validate(given).build(headlines())
    numbers = count()
    sources = prepared(method, Teacher(lambda _: f" Town {next(numbers) % 5} "))
    ours, theirs = planned(method, 1000, sources), planned(plain, 1000, sources)
    assert len(ours) == len(theirs) == 5 * 32 * 2
    assert {(i.labels, i.draw, i.attributes["condition"]) for i in ours} == {
        (i.labels, i.draw, i.attributes["condition"]) for i in theirs
    }
    assert method.capacity(sources) == plain.capacity(sources) == {"sport": 160, "trade": 160}
    teacher = Teacher(lambda _: LONG)
    assert worked(method, ours[0], teacher) == [Example({"text": LONG}, "sport")]
    assert [sampling for _, sampling in teacher.asked] == [WRITTEN]
    assert is_golden(method.prompt("sport", 'Bad "Ems"'), "zerogen_condition_raw")


def test_nothing_is_written_after_the_pool() -> None:
    method = build()
    assert planned(method, 10, {}, round=1) == []
    assert len(planned(method, 10, {})) == 10
    assert method.capacity({}) is None


def test_items_are_this_methods_own_and_those_of_its_settings() -> None:
    ids = {item.id for item in planned(build(), 50)}
    assert planned(build(), 50) == planned(build(), 50)
    assert not ids & {item.id for item in planned(build(min_words=3), 50)}
    assert not ids & {item.id for item in planned(ZeroGenSettings().build(headlines()), 50)}


@pytest.mark.parametrize("samples", [32, 3])
def test_calls_per_example_are_zerogens(samples: int) -> None:
    method = build(condition="town", conditions=6, samples=samples)
    numbers = count()
    teacher = Teacher(lambda prompt: LONG if "about" in prompt else f"Town {next(numbers)}")
    sources = prepared(method, teacher)
    found = [*planned(method, 1000, sources), *planned(method, 1000, sources, round=1)]
    examples = [each for item in found for each in worked(method, item, teacher)]
    assert {type(each) for each in examples} == {Example}
    assert len(teacher.asked) / len(examples) == 1 + 1 / (samples * 2)


@pytest.mark.parametrize("render", ["raw", "chat"])
def test_labels_of_any_name_are_written_for(render: str) -> None:
    method = build(headlines(labels=ODD), render=render)
    for item in planned(method, 8):
        teacher = Teacher(lambda _: LONG)
        assert worked(method, item, teacher) == [Example({"text": LONG}, item.labels[0])]
        assert ODD[item.labels[0]] in teacher.prompts[0]


def test_pairs_take_a_field_from_the_seeds() -> None:
    method = build(pairs(), condition_field="text")
    assert method.settings.wants_seeds()
    assert SunGenSettings(condition_field="text").wants_seeds()
    (item,) = planned(method, 1, prepared(method, Teacher(lambda _: "")))
    (example,) = worked(method, item, Teacher(lambda _: LONG))
    assert isinstance(example, Example)
    assert list(example.fields.items()) == [("text", item.attributes["condition"]), ("hypothesis", LONG)]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"keep": "none"}, "keep"),
        ({"pool": 0.5}, "pool"),
        ({"pool": float("inf")}, "pool"),
        ({"condition": "town", "condition_field": "text"}, "not both"),
        ({"self_debiasing": True, "render": "chat"}, "render to raw"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SunGenSettings.model_validate(settings)


@pytest.mark.parametrize("name", ["sungen", "production/sungen"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.method.name == "sungen"
    assert not recipe.method.needs() - recipe.teacher.abilities
    assert recipe.method.weights_leave_out
