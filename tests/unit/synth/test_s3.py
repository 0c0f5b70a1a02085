"""S3: rationales, texts of the seed stage, and one more for each gold row that a student got wrong."""

from collections import Counter
from itertools import count, islice, pairwise
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import RunError, SettingsError
from jobs.recipe import load_recipe
from synth.method import Method, Sources
from synth.methods.s3 import S3, S3Settings
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling
from synth.task import Gold, Task
from tests.unit.synth.method_desk import ODD, Teacher, headlines, is_golden, pairs, planned, prepared, worked

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"
WRITTEN = Sampling(temperature=0.9, top_p=0.9, max_tokens=200)


def build(task: Task | None = None, **settings: Any) -> S3:
    given = {"look_at": "seeds"} | settings
    method: Method = S3Settings.model_validate(given).build(task or headlines())
    assert isinstance(method, S3)
    return method


def pair_method(**settings: Any) -> S3:
    return build(pairs(), context_field="text", **settings)


def reasons(method: S3, of_each: int = 10) -> Sources:
    lines = "\n".join(f"{n}. reason {n}" for n in range(1, of_each + 1))
    return prepared(method, Teacher(lambda prompt: lines))


def errors(task: Task, rows: int | None = None) -> pa.Table:
    """The seeds as gold rows that a student takes for another label; so many of them."""
    return pa.Table.from_pylist(
        [
            {"id": gold.id, **gold.fields, "label": gold.label, "predicted": "x", "probability": 0.1}
            for gold in task.seeds[:rows]
        ],
        schema=pa.schema(
            [(name, pa.string()) for name in ("id", *task.settings.fields, "label", "predicted")]
            + [("probability", pa.float64())]
        ),
    )


def corrections(method: S3, rows: int | None = None, round: int = 1) -> list[Item]:
    """All items of a round that follows errors."""
    slots = list(method.plan({}, round, {"errors": errors(method.task, rows)}))
    built = [slot.build() for slot in slots]
    assert [(item.position, item.labels) for item in built] == [slot[:2] for slot in slots]
    assert [item.position for item in built] == list(range(len(built)))
    assert len({item.id for item in built}) == len(built)
    return built


def golden_prompts() -> dict[str, Prompt]:
    """Every prompt, by the name of its golden file."""
    prompts: dict[str, Prompt] = {}
    seed = item_of(rationale_1="names a team", rationale_2='tells of a "final"')
    error = item_of(1, shown="Fans wait for the new stadium.")
    for render in ("raw", "chat"):
        method = build(render=render)
        prompts[f"s3_rationales_{render}"] = method.rationales_prompt("sport")
        prompts[f"s3_seed_{render}"] = method.prompt(seed)
        prompts[f"s3_error_{render}"] = method.prompt(error)
    prompts["s3_seed_plain_chat"] = build().prompt(item_of())
    context, claim = "A ferry sank off the coast. Nobody was hurt.", "The sea was rough."
    prompts["s3_seed_pair_chat"] = pair_method().prompt(item_of(context=context))
    prompts["s3_error_pair_chat"] = pair_method().prompt(item_of(1, context=context, shown=claim))
    return prompts


def item_of(round: int = 0, **attributes: str) -> Item:
    label = "neutral" if "context" in attributes else "sport"
    return Item("i", round, 0, (label,), attributes=attributes)


# Rounds


@pytest.mark.parametrize("seed_share", [2 / 3, 0.5, 0.1, 1])
@pytest.mark.parametrize("error_rounds", [1, 2, 5])
@pytest.mark.parametrize("targets", [{"a": 10, "b": 7}, {"a": 0, "b": 3}, {"a": 1, "b": 1}, {"a": 21_000}])
def test_rounds_go_in_even_steps_from_the_seed_stage_to_the_targets(
    targets: dict[str, int], error_rounds: int, seed_share: float
) -> None:
    settings = S3Settings(seed_share=seed_share, error_rounds=error_rounds)
    first, *others = rounds = settings.rounds(targets)
    assert [each.lessons for each in rounds] == [(), *[("errors",)] * error_rounds]
    assert first.targets == {label: ceil(round(n * seed_share, 6)) for label, n in targets.items()}
    assert rounds[-1].targets == targets
    assert len(others) == error_rounds
    for label, rows in targets.items():
        steps = [after.targets[label] - before.targets[label] for before, after in pairwise(rounds)]
        assert all(step >= 0 for step in steps)
        assert max(steps) - min(steps) <= 1
        assert sum(steps) + first.targets[label] == rows


def test_the_sizes_are_those_of_the_paper() -> None:
    rounds = S3Settings().rounds({"negative": 10_500, "positive": 10_500})
    assert [sum(each.targets.values()) for each in rounds] == [14_000, 17_500, 21_000]
    assert S3Settings(seed_share=5 / 7).rounds({"a": 21_000})[0].targets == {"a": 15_000}


def test_without_error_rounds_there_is_the_seed_stage_alone() -> None:
    assert S3Settings(error_rounds=0).rounds({"a": 5, "b": 0}) == [({"a": 5, "b": 0}, ())]


# Rationales


def test_rationales_are_listed_in_one_call_for_each_label() -> None:
    lists = {
        "sport": "1. a score\n2. a player\n3. A score\n4. a league",
        "trade": "- money\n- a firm\n- shares",
    }
    teacher = Teacher(lambda prompt: next(text for label, text in lists.items() if label in prompt))
    sources = prepared(build(rationales=3), teacher)
    assert sources["rationales"].to_pylist() == [
        {"label": label, "rationale": text}
        for label, texts in {
            "sport": ("a score", "a player", "a league"),
            "trade": ("money", "a firm", "shares"),
        }.items()
        for text in texts
    ]
    (stage,) = sources["stages"].to_pylist()
    assert (stage["stage"], stage["asked"], stage["got"], stage["replies"]) == ("rationales", 6, 6, 2)
    assert [sampling for _, sampling in teacher.asked] == [Sampling(0.9, 0.9, 600)] * 2


def test_a_label_whose_list_cannot_be_read_is_asked_for_without() -> None:
    teacher = Teacher(lambda prompt: "No." if "sport" in prompt else "1. money\n2. shares")
    method = build()
    sources = prepared(method, teacher)
    assert len(teacher.asked) == 3 + 1
    sport, trade = planned(method, 2, sources)
    assert sport.attributes == {}
    assert set(trade.attributes.values()) == {"money", "shares"}


def test_no_rationale_at_all_ends_the_run_with_what_the_teacher_wrote() -> None:
    with pytest.raises(RunError, match=r"asked 6 times for rationales.*'No\.'.*method\.rationales=0"):
        prepared(build(), Teacher(lambda _: "No."))


@pytest.mark.parametrize("method", [build(rationales=0), pair_method()], ids=["none", "pairs"])
def test_nothing_is_prepared_where_no_rationales_are_shown(method: S3) -> None:
    teacher = Teacher(lambda _: "1. one\n2. two")
    assert prepared(method, teacher) == {}
    assert not teacher.asked


# Seed stage


def test_labels_take_turns_without_end_each_with_rationales_of_its_own() -> None:
    numbers = count()
    method = build(shown=3)
    words = Teacher(lambda _: "\n".join(f"{n}. reason {next(numbers)}" for n in range(1, 11)))
    sources = prepared(method, words)
    found = planned(method, 801, sources)
    assert Counter(item.labels[0] for item in found) == {"sport": 401, "trade": 400}
    shown = {"sport": Counter[str](), "trade": Counter[str]()}
    for item in found:
        assert len(item.attributes) == len(set(item.attributes.values())) == 3
        shown[item.labels[0]].update(item.attributes.values())
    assert set(shown["sport"]) == {f"reason {n}" for n in range(10)}
    assert set(shown["trade"]) == {f"reason {n}" for n in range(10, 20)}
    # Uniform: 120 of each are to be expected.
    assert all(80 < times < 160 for each in shown.values() for times in each.values())
    assert method.capacity(sources) is None


def test_fewer_rationales_than_wanted_are_all_shown() -> None:
    method = build(shown=9)
    (item,) = planned(method, 1, reasons(method, of_each=4))
    assert sorted(item.attributes.values()) == [f"reason {n}" for n in range(1, 5)]


def test_pairs_get_a_context_of_any_seed_whatever_its_label() -> None:
    method = pair_method()
    found = planned(method, 600)
    gold = {seed.id: seed for seed in method.task.seeds}
    for item in found:
        assert item.attributes == {"context": gold[item.seed_id or ""].fields["text"]}
    assert Counter(item.labels for item in found) == {("entailment",): 300, ("neutral",): 300}
    served = Counter((item.labels[0], item.seed_id) for item in found)
    assert len(served) == 2 * 12
    assert min(served.values()) > 8


def test_the_plan_is_the_same_each_time_in_any_order() -> None:
    method = build()
    sources = reasons(method)
    first = planned(method, 60, sources)
    assert planned(build(), 60, sources) == first
    slots = list(islice(method.plan(sources, 0, {}), 60))
    assert [slot.build() for slot in reversed(slots)] == first[::-1]
    assert not {item.id for item in planned(build(shown=2), 60, sources)} & {item.id for item in first}
    again = corrections(method)
    assert corrections(build()) == again
    assert [item.seed_id for item in corrections(method, round=2)] != [item.seed_id for item in again]
    assert not {item.id for item in corrections(method, round=2)} & {item.id for item in again}


# Errors


@pytest.mark.parametrize("repeats", [1, 3])
def test_every_error_gives_an_item_with_its_gold_label(repeats: int) -> None:
    method = build(repeats=repeats)
    found, gold = corrections(method), {seed.id: seed for seed in method.task.seeds}
    assert Counter(item.seed_id for item in found) == dict.fromkeys(gold, repeats)
    for item in found:
        row = gold[item.seed_id or ""]
        assert item.labels == (row.label,)
        assert item.attributes == {"shown": row.text}
        assert [(shot.id, shot.text) for shot in item.shots] == [(row.id, row.text)]
    # Each error is served once before one is served again, in an order of the round's own.
    order = [item.seed_id for item in found]
    assert order[: len(gold)] != list(gold)
    assert order == order[: len(gold)] * repeats


def test_errors_of_pairs_keep_their_context() -> None:
    method = pair_method()
    gold = {seed.id: seed for seed in method.task.seeds}
    for item in corrections(method):
        row = gold[item.seed_id or ""]
        assert item.attributes == {"shown": row.fields["hypothesis"], "context": row.text}
        (example,) = worked(method, item, Teacher(lambda _: "A new claim."))
        assert example == Example({"text": row.text, "hypothesis": "A new claim."}, row.label)


def test_without_errors_there_is_nothing_to_write() -> None:
    assert corrections(build(), rows=0) == []
    assert len(corrections(build(), rows=2)) == 2


@pytest.mark.parametrize("labels", [2, 3])
def test_calls_per_example_are_one_and_a_list_for_each_label(labels: int) -> None:
    task = headlines(labels={f"l{n}": f"topic {n}" for n in range(labels)})
    method = build(task)
    teacher = Teacher(lambda prompt: "1. one\n2. two" if "numbered" in prompt else "A new headline.")
    sources = prepared(method, teacher)
    found = [*planned(method, 100, sources), *corrections(method)]
    examples = [each for item in found for each in worked(method, item, teacher)]
    assert {type(each) for each in examples} == {Example}
    assert len(teacher.asked) == len(examples) + labels


# Prompts and replies


@pytest.mark.parametrize("name", list(golden_prompts()))
def test_the_prompt_is_the_golden_one(name: str) -> None:
    assert is_golden(golden_prompts()[name], name)


def test_texts_are_asked_for_with_the_papers_temperature() -> None:
    raw: dict[str, Any] = {"render": "raw", "stop": ["\n\n"]}
    for settings, stop in ((dict[str, Any](), ()), (raw, ("\nHeadline:", "\n\n"))):
        method, teacher = build(**settings), Teacher(lambda _: "A cup final.")
        for item in (planned(method, 1)[0], corrections(method)[0]):
            assert worked(method, item, teacher) == [Example({"text": "A cup final."}, item.labels[0])]
        assert [sampling for _, sampling in teacher.asked] == [Sampling(0.9, 0.9, 200, stop)] * 2


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (Reply("Cut", "length", 1, 1), Rejection("cut_off", "Cut", "sport")),
        (Reply("", "stop", 1, 1), Rejection("empty", "", "sport")),
        (Reply('Sure, here is one:\n"Cup won."', "stop", 1, 1), Example({"text": "Cup won."}, "sport")),
        (Reply("Headline: Cup won.", "stop", 1, 1), Example({"text": "Cup won."}, "sport")),
    ],
)
def test_replies_are_read_or_rejected_with_a_reason(reply: Reply, wanted: Example | Rejection) -> None:
    method = build()
    assert worked(method, planned(method, 1)[0], Teacher(lambda _: reply)) == [wanted]


@pytest.mark.parametrize("render", ["raw", "chat"])
def test_labels_of_any_name_are_written_for(render: str) -> None:
    method = build(headlines(labels=ODD), render=render)
    sources = reasons(method)
    for item in (*planned(method, 8, sources), *corrections(method)):
        teacher = Teacher(lambda _: "A new text.")
        assert worked(method, item, teacher) == [Example({"text": "A new text."}, item.labels[0])]
        assert ODD[item.labels[0]] in teacher.prompts[0]


def test_what_a_prompt_shows_is_no_template() -> None:
    task = headlines(seeds=1)
    odd = Gold("odd", {"text": 'A "{{ text }}" {% x %} – 日本語'}, "sport")
    method = build(Task(task.settings, (odd,)))
    teacher = Teacher(lambda _: "A new text.")
    worked(method, corrections(method)[0], teacher)
    assert odd.text in teacher.prompts[0]


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"rationales": -1},
        {"shown": 0},
        {"seed_share": 0},
        {"seed_share": 1.1},
        {"repeats": 0},
        {"error_rounds": -1},
        {"look_at": "test"},
        {"preset": "published_code"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        S3Settings.model_validate(settings)


def test_what_does_not_fit_the_task_is_told_with_a_remedy() -> None:
    wrong: list[tuple[Task, dict[str, Any], str]] = [
        (headlines(), {"look_at": "train"}, r"task\.train names no file.*method\.look_at=seeds"),
        (pairs(), {}, "has text, hypothesis; say which one is taken from the seeds"),
        (pairs(), {"context_field": "premise"}, "premise has to be one of the two fields"),
        (headlines(), {"context_field": "text"}, "text has to be one of the two fields"),
        (pairs(seeds=0), {"context_field": "text"}, "task.seeds"),
        (headlines(), {"seed_request": "{{ nonsense }}"}, "nonsense"),
        (headlines(), {"error_request": "{{ nonsense }}"}, "nonsense"),
        (headlines(), {"rationale_request": "{{ nonsense }}"}, "nonsense"),
    ]
    for task, settings, said in wrong:
        with pytest.raises(SettingsError, match=said):
            build(task, **settings)


def test_gold_rows_to_look_at_are_the_training_rows_or_the_seeds() -> None:
    assert S3Settings().looks_at() == "train"
    assert S3Settings(look_at="seeds").looks_at() == "seeds"
    assert [
        S3Settings.model_validate(given).wants_seeds()
        for given in (
            {},
            {"look_at": "seeds"},
            {"look_at": "seeds", "error_rounds": 0},
            {"context_field": "text"},
        )
    ] == [False, True, False, True]
    assert build(look_at="train", error_rounds=0)
    settings = headlines().settings.model_copy(update={"train": Path("train.jsonl")})
    assert build(Task(settings, ()), look_at="train")


@pytest.mark.parametrize("name", ["s3", "production/s3"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert recipe.method.name == "s3"
    assert not recipe.method.needs() - recipe.teacher.abilities
