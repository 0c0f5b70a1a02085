"""Bootstrapping: seeds made by the teacher for labels that lack them, and what SynthesizRR does with them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import RunError, SettingsError
from synth.bootstrap import BootstrapSettings, seeds_in
from synth.method import Method, Sources, Tools
from synth.methods.synthesizrr import SynthesizRRSettings
from synth.prompting import as_text
from synth.records import Example, Prompt, Reply, Sampling
from synth.task import Task
from tests.unit.synth.method_desk import Teacher, Words, headlines, is_golden, planned, prepared, worked

REFUSAL = "I'm sorry, but I cannot help with that."


class Library:
    """Finds four documents of its own for every query, and keeps the queries."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    async def retrieve(self, queries: Sequence[str], ranks: int) -> list[list[Any]]:
        self.queries += queries
        return [
            [
                SimpleNamespace(
                    document=SimpleNamespace(id=f"d{q}-{n}", title=None, text=f"Document {n} on: {query}"),
                    rank=n,
                    score=0.5,
                )
                for n in range(1, 5)
            ]
            for q, query in enumerate(queries)
        ]


def build(task: Task, bootstrap: Any, **settings: Any) -> Method:
    given = {"bootstrap": bootstrap, "min_document_tokens": 0, "last_rank": 4} | settings
    return SynthesizRRSettings.model_validate(given).build(task)


def sources(method: Method, teacher: Teacher, library: Library | None = None) -> Sources:
    return prepared(method, teacher, (library or Library()).retrieve)


def numbered(*odd: str | Reply) -> Teacher:
    """Answers the first prompts with what is given, then each with a headline of its own."""
    left, told = list(odd), iter(range(10_000))
    return Teacher(lambda prompt: left.pop(0) if left else f"Headline number {next(told)} of the day")


def counts(found: Sources) -> dict[str, tuple[int, int, int, dict[str, int]]]:
    rows = found["bootstrap"].to_pylist()
    return {row["label"]: (row["gold"], row["asked"], row["made"], dict(row["dropped"])) for row in rows}


def test_without_gold_every_seed_is_asked_for_with_the_prompt_of_fewgen() -> None:
    teacher = numbered()
    found = sources(build(headlines(seeds=0), 6), teacher)
    asked = Counter(teacher.prompts)
    assert sorted(asked.values()) == [6, 6]
    (sport,) = [prompt for prompt in asked if "an athlete" in prompt]
    assert is_golden(sport, "fewgen_0_raw")
    assert {sampling for _, sampling in teacher.asked} == {
        Sampling(temperature=0.95, top_p=0.9, max_tokens=200, stop=("\nHeadline:",))
    }
    assert counts(found) == {"sport": (0, 6, 6, {}), "trade": (0, 6, 6, {})}
    assert found["stages"].to_pylist() == [{"stage": "bootstrap", "asked": 12, "got": 12}]
    made = found["seeds"].to_pylist()
    assert [row["label"] for row in made] == ["sport"] * 6 + ["trade"] * 6
    assert len({row["id"] for row in made}) == 12 and all(row["made"] for row in made)


@pytest.mark.parametrize(("gold", "shown"), [(5, 3), (15, 3), (2, 2)])
def test_gold_seeds_of_the_label_are_shown_and_stay_first(gold: int, shown: int) -> None:
    teacher, task = numbered(), headlines(seeds=gold)
    found = sources(build(task, 40), teacher)
    seeds = seeds_in(found["seeds"])
    assert [row["made"] for row in found["seeds"].to_pylist()] == 2 * ([False] * gold + [True] * (40 - gold))
    assert [seed for seed in seeds if seed.id in {each.id for each in task.seeds}] == list(task.seeds)
    assert len(teacher.asked) == 2 * (40 - gold)
    for prompt in teacher.prompts:
        label = "sport" if "an athlete" in prompt else "trade"
        assert prompt.count("Headline: Gold text ") == prompt.count(f"Headline: Gold text {label} ") == shown
    # Drawn anew: as good as all of them are shown.
    text = "\n".join(teacher.prompts)
    assert sum(seed.text in text for seed in task.seeds) >= 2 * gold - 2


def test_labels_with_seeds_enough_are_left_alone() -> None:
    task = headlines(seeds=6)
    few = Task(task.settings, task.seeds[:8])
    teacher = numbered()
    assert counts(sources(build(few, 6), teacher)) == {"sport": (6, 0, 0, {}), "trade": (2, 4, 4, {})}
    assert all("companies and markets" in prompt for prompt in teacher.prompts)
    teacher = numbered()
    found = sources(build(task, 4), teacher)
    assert teacher.asked == [] and seeds_in(found["seeds"]) == task.seeds


def test_what_is_no_seed_is_dropped_counted_and_asked_for_again() -> None:
    odd = (
        "Gold  TEXT sport 0.",
        " ",
        Reply("A headline that is", "length", 1, 1),
        REFUSAL,
        "A good one here",
    )
    teacher = numbered(*odd, "a GOOD one  here")
    found = sources(build(headlines(seeds=1), {"seeds_per_label": 6, "shots": 0}), teacher)
    assert counts(found) == {
        "sport": (1, 9, 5, {"copies_seed": 1, "empty": 1, "cut_off": 1, "refusal": 1}),
        # What another label has is no seed of this one.
        "trade": (1, 6, 5, {"duplicate": 1}),
    }
    texts = [seed.text for seed in seeds_in(found["seeds"])]
    assert len({text.casefold() for text in texts}) == 12
    assert not {"", REFUSAL, "A headline that is"} & set(texts)


def test_a_copy_of_a_gold_seed_is_no_seed() -> None:
    task = headlines(seeds=1)
    text = "The side won the cup final in the rain after a long night that saw three goals and a fight"
    long = replace(task.seeds[0], fields={"text": text})
    copy = text.replace("a fight", "two fights")
    method = build(Task(task.settings, (long, task.seeds[1])), 2)
    assert counts(sources(method, numbered(copy)))["sport"] == (1, 2, 1, {"copies_seed": 1})


def test_the_seeds_do_not_depend_on_which_reply_comes_first() -> None:
    def made(haste: int) -> list[str]:
        asked = iter(range(100))

        async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
            number = next(asked)
            await asyncio.sleep(0.002 * (haste * number % 7))
            # Every third says what the one before it said.
            return Reply(f"Headline {number - (number % 3 == 2)} of the day", "stop", 1, 1)

        tools = Tools(generate, Words(), Library().retrieve)
        found = asyncio.run(build(headlines(seeds=0), 5).prepare(tools))
        return [seed.text for seed in seeds_in(found["seeds"])]

    assert made(1) == made(3) == made(0)


def test_tries_are_limited_and_fewer_seeds_than_wanted_will_do() -> None:
    teacher = Teacher(lambda prompt: "About sport" if "an athlete" in prompt else "About trade")
    found = sources(build(headlines(seeds=0), {"seeds_per_label": 10, "tries": 3}), teacher)
    assert counts(found)["sport"] == (0, 10 + 9 + 9, 1, {"duplicate": 27})
    assert [seed.text for seed in seeds_in(found["seeds"])] == ["About sport", "About trade"]


def test_a_label_that_gets_none_is_named_with_counts_reply_and_remedy() -> None:
    teacher = Teacher(lambda prompt: REFUSAL if "companies" in prompt else "A cup final in the rain")
    with pytest.raises(RunError) as caught:
        sources(build(headlines(seeds=0), {"seeds_per_label": 2, "tries": 2}), teacher)
    assert str(caught.value) == (
        "bootstrap: label trade has no gold seed, and none of 4 replies is one (refusal 4); the last was "
        f'"{REFUSAL}". Give seeds of it in task.seeds, look at method.render and method.sampling.max_tokens, '
        "or take a larger teacher"
    )


def test_any_label_can_be_asked_for() -> None:
    names = {f"{{{{ x }}}} '\"# {n}\n{{% y %}} ü": f'{{{{ "v" }}}} {n} {{% for %}} 猫' for n in range(80)}
    teacher = numbered()
    found = sources(build(headlines(seeds=0, labels=names), 2), teacher)
    assert [seed.label for seed in seeds_in(found["seeds"])] == [name for name in names for _ in range(2)]
    assert all(any(phrase in prompt for phrase in names.values()) for prompt in teacher.prompts)


def test_the_number_of_seeds_is_the_papers_unless_it_is_given() -> None:
    assert [BootstrapSettings().wanted(labels) for labels in (2, 3, 23)] == [100, 50, 50]
    assert BootstrapSettings(seeds_per_label=7).wanted(2) == 7
    forms = [SynthesizRRSettings(bootstrap=each) for each in (True, {}, 7, {"seeds_per_label": 7})]
    assert [each.bootstrap and each.bootstrap.seeds_per_label for each in forms] == [None, None, 7, 7]
    assert all(each == SynthesizRRSettings.model_validate(each.model_dump(mode="json")) for each in forms)


@pytest.mark.parametrize(
    "wrong", [0, "many", {"shots": 33}, {"tries": 0}, {"seeds": 9}, {"temperature": -1}, {"top_p": 0}]
)
def test_settings_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="bootstrap"):
        SynthesizRRSettings.model_validate({"bootstrap": wrong})


def test_a_template_that_fails_is_told_before_anything_is_asked() -> None:
    with pytest.raises(SettingsError, match=r"prompt template 'About \{\{ nothing \}\}'"):
        build(headlines(seeds=0), {"instruction": "About {{ nothing }}"})


def test_turned_off_it_leaves_plans_as_they_were_and_turned_on_it_does_not() -> None:
    off, on = SynthesizRRSettings(bootstrap=False), SynthesizRRSettings(bootstrap=True)
    assert "bootstrap" not in off.identity() and off == SynthesizRRSettings()
    assert (off.wants_seeds(), on.wants_seeds()) == (True, False)
    assert off.build(headlines()).plan_key != on.build(headlines()).plan_key
    with pytest.raises(SettingsError, match=r"label sport has no seed; .* method\.bootstrap=true"):
        off.build(headlines(seeds=0))
    library, teacher = Library(), numbered()
    assert set(sources(build(headlines(), None), teacher, library)) == {"hits", "documents", "band"}
    assert teacher.asked == [] and library.queries == [seed.text for seed in headlines().seeds]


@pytest.mark.parametrize("variant", ["retricl", "non_retricl", "zero_shot"])
def test_made_seeds_are_queries_shots_and_the_seeds_of_items(variant: str) -> None:
    method = build(headlines(seeds=2), 5, variant=variant)
    library, teacher = Library(), numbered()
    found = sources(method, teacher, library)
    seeds = {seed.id: seed for seed in seeds_in(found["seeds"])}
    assert library.queries == [seed.text for seed in seeds.values()]
    assert len(teacher.asked) == 2 * 3
    capacity = method.capacity(found) or {}
    assert capacity == dict.fromkeys(("sport", "trade"), 5 * (4 if variant == "non_retricl" else 2))
    items = planned(method, 100, found)
    assert Counter(item.labels[0] for item in items) == capacity
    assert {item.seed_id for item in items} == set(seeds)
    for item in items:
        assert seeds[item.seed_id or ""].text in item.documents[0].text
        shown = [seeds[shot.id.partition("/")[0]] for shot in item.shots]
        assert [seed.text for seed in shown] == [shot.text for shot in item.shots]
        assert {seed.label for seed in shown} <= {item.labels[0]}
        assert len(shown) == {"retricl": 3, "non_retricl": 4, "zero_shot": 0}[variant]
    # What is committed is enough: a method built anew plans the same, and each example is one call.
    assert planned(build(headlines(seeds=2), 5, variant=variant), 100, found) == items
    writing = Teacher(lambda prompt: "A new headline")
    assert worked(method, items[0], writing) == [Example({"text": "A new headline"}, items[0].labels[0])]
    assert len(writing.asked) == 1 and "Document" in as_text(writing.asked[0][0])
