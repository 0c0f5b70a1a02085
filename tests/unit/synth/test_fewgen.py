"""FewGen: gold texts of the label as shots, drawn anew for every prompt, and its prompts word for word."""

import asyncio
from collections import Counter
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import SettingsError
from synth.method import Method
from synth.methods.fewgen import FewGen, FewGenSettings
from synth.prompting import as_text
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling, Shot, make_item
from synth.task import Gold, Task, TaskSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "prompts"
LABELS = {"sport": "a match or an athlete", "trade": "companies and markets"}


def task(seeds: int = 6) -> Task:
    settings = TaskSettings(
        name="news", instruction="Tell the topic.", text_type="Headline", labels=LABELS, length="one sentence"
    )
    gold = [
        Gold(f"{label}{number}", {"text": f"Gold {label} {number}."}, label)
        for label in LABELS
        for number in range(seeds)
    ]
    return Task(settings, tuple(gold))


def build(seeds: int = 6, **settings: Any) -> FewGen:
    method: Method = FewGenSettings.model_validate(settings).build(task(seeds))
    assert isinstance(method, FewGen)
    return method


def plan(method: FewGen, items: int, round: int = 0) -> list[Item]:
    slots = list(islice(method.plan({}, round, {}), items))
    built = [slot.build() for slot in slots]
    assert [(item.position, item.labels) for item in built] == [slot[:2] for slot in slots]
    return built


def work(method: FewGen, text: str) -> tuple[list[Example | Rejection], Prompt, Sampling]:
    """Work the first item with a teacher that answers with the text; also what it was asked."""
    asked: list[tuple[Prompt, Sampling]] = []

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        asked.append((prompt, sampling))
        return Reply(text, "stop", 1, 1)

    outcomes = asyncio.run(method.examples(plan(method, 1)[0], generate))
    ((prompt, sampling),) = asked
    return outcomes, prompt, sampling


@pytest.mark.parametrize("render", ["raw", "chat"])
@pytest.mark.parametrize("shots", [0, 2])
def test_the_prompt_is_the_golden_one(shots: int, render: str) -> None:
    shown = tuple(Shot(seed.id, seed.text) for seed in task().seeds[:shots])
    item = make_item("key", 0, 0, ("sport",), shots=shown)
    prompt = as_text(build(shots=shots, render=render).prompt(item))
    assert f"{prompt}\n" == (GOLDEN / f"fewgen_{shots}_{render}.txt").read_text(encoding="utf-8")


def test_labels_take_turns_without_end_and_without_an_item_twice() -> None:
    items = plan(build(), 1001)
    assert Counter(item.labels[0] for item in items) == {"sport": 501, "trade": 500}
    assert [item.labels[0] for item in items[:4]] == ["sport", "trade", "sport", "trade"]
    assert [item.position for item in items] == list(range(1001))
    assert len({item.id for item in items}) == 1001
    assert build().capacity({}) is None


def test_shots_are_distinct_gold_texts_of_the_label_drawn_anew_for_each_item() -> None:
    items = plan(build(shots=3), 400)
    for item in items:
        assert len({shot.id for shot in item.shots}) == 3
        assert all(shot.text.startswith(f"Gold {item.labels[0]} ") for shot in item.shots)
    drawn = Counter(tuple(shot.id for shot in item.shots) for item in items)
    # 120 ordered draws of 3 of 6 for each label: a fixed or cycling draw would show a handful.
    assert len(drawn) > 120
    shown = Counter(shot.id for item in items for shot in item.shots)
    assert set(shown) == {seed.id for seed in task().seeds}
    assert min(shown.values()) > 60


def test_the_plan_is_the_same_each_time_and_another_in_each_round_and_task() -> None:
    method = build(shots=2)
    first = plan(method, 50)
    assert plan(method, 50) == plan(build(shots=2), 50) == first
    assert plan(method, 80)[:50] == first
    for others in (plan(method, 50, round=1), plan(build(shots=2, instruction="Write."), 50)):
        assert not {item.id for item in others} & {item.id for item in first}
        assert [item.shots for item in others] != [item.shots for item in first]


@pytest.mark.parametrize(
    ("shots", "key", "ids", "all_ids"),
    [
        (0, "b6a1eef9ad2cf24f28ca242b5e272521", ["a3c0616211acf123", "900e3670d4a3f603"], "c66d48e520c2e593"),
        (3, "16de3704e031cc190f8711ecb628595a", ["dec0658767c622a9", "36d01186e942be6c"], "46305be1a9e6f96c"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_the_plan_is_that_of_earlier_versions(
    shots: int, key: str, ids: list[str], all_ids: str, nested: bool
) -> None:
    # Ledgers hold these ids: a version that changes one cannot go on with an earlier run.
    method = build(shots={"count": shots, "reuse": 1} if nested else shots)
    items = plan(method, 60)
    assert method.plan_key == key
    assert [item.id[:16] for item in items[:2]] == ids
    assert blake2b("".join(item.id for item in items).encode(), digest_size=8).hexdigest() == all_ids


def test_items_in_a_row_share_a_draw_of_shots_as_often_as_is_asked() -> None:
    method, once = build(shots={"count": 3, "reuse": 4}), build(shots=3)
    items = plan(method, 160)
    groups = [items[n : n + 4] for n in range(0, 160, 4)]
    assert [group[0].labels[0] for group in groups] == ["sport", "trade"] * 20
    for group in groups:
        assert len({(item.labels, item.shots) for item in group}) == 1
    assert len({group[0].shots for group in groups}) > 20
    assert [item.draw for item in items if item.labels == ("sport",)] == list(range(80))
    assert [item.position for item in items] == list(range(160))
    assert len({item.id for item in items} | {item.id for item in plan(once, 160)}) == 320
    # Built in any order, and one without the others, an item is the same.
    slots = list(islice(method.plan({}, 0, {}), 160))
    assert [slot.build() for slot in reversed(slots)] == items[::-1]
    assert next(islice(method.plan({}, 0, {}), 102, None)).build() == items[102]


@pytest.mark.parametrize(
    ("given", "plain"),
    [(8, 8), ({"count": 8}, 8), ({"count": 8, "reuse": 2}, {"count": 8, "reuse": 2}), ({"reuse": 1}, 0)],
)
def test_shots_are_written_as_a_number_unless_they_are_reused(given: Any, plain: Any) -> None:
    settings = FewGenSettings.model_validate({"shots": given})
    for mode in ("json", "python"):
        dumped = settings.model_dump(mode=mode)
        assert dumped["shots"] == plain
        assert FewGenSettings.model_validate(dumped) == settings


@pytest.mark.parametrize(
    "wrong", [-1, 33, "many", {"count": 33}, {"count": 1, "reuse": 0}, {"number": 2}, [1]]
)
def test_shots_that_cannot_be_are_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="shots"):
        FewGenSettings.model_validate({"shots": wrong})


def test_too_few_seeds_are_told_with_label_numbers_and_remedy() -> None:
    with pytest.raises(SettingsError) as caught:
        build(seeds=6, shots=7)
    said = "method.shots: 7 shots are asked for, label sport has 6 seeds; add seeds or lower method.shots"
    assert str(caught.value) == said
    assert all(len(item.shots) == 6 for item in plan(build(seeds=6, shots=6), 4))
    assert plan(build(seeds=0, shots=0), 1)[0].shots == ()


def test_a_reply_gives_its_first_piece_and_stops_at_the_header() -> None:
    outcomes, prompt, sampling = work(build(stop=["\n\n"]), " Cup final.\n\nHeadline: Shares fall.")
    assert outcomes == [
        Example({"text": "Cup final."}, "sport"),
        Rejection("run_on", "Shares fall.", "sport"),
    ]
    assert sampling == Sampling(temperature=0.95, top_p=0.9, max_tokens=200, stop=("\nHeadline:", "\n\n"))
    assert isinstance(prompt, str)


def test_the_published_code_keeps_every_piece_and_sets_no_stop_strings() -> None:
    outcomes, _, sampling = work(build(preset="published_code"), "Cup final.\nHeadline: Shares fall.")
    assert outcomes == [Example({"text": text}, "sport") for text in ("Cup final.", "Shares fall.")]
    assert sampling.stop == ()


def test_a_key_of_the_recipe_wins_over_the_preset() -> None:
    settings = FewGenSettings(preset="published_code", pieces="first")
    assert (settings.pieces, settings.header_stops, settings.shots.count) == ("first", False, 0)
