"""SynthesizRR: which documents are rewritten with which shots, and its prompts word for word."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import SettingsError
from retrieval.reading.sentences import cut_at_sentence
from synth.method import Method, Sources, Tools
from synth.methods.synthesizrr import SynthesizRR, SynthesizRRSettings
from synth.prompting import as_text
from synth.records import Example, Grounding, Item, Prompt, Reply, Sampling, Shot, make_item
from synth.task import Gold, Task, TaskSettings
from synth.teachers.scripted import Words

GOLDEN = Path(__file__).parents[2] / "golden" / "prompts"
LABELS = {"sport": "a match or an athlete", "trade": "companies and markets"}
SEEDS = tuple(Gold(f"{k}{n}", {"text": f"Gold {k} {n}."}, k) for k in LABELS for n in range(4))
TASK = Task(
    TaskSettings(
        name="news",
        instruction="Tell the topic.",
        text_type="Headline",
        document_type="News Article",
        labels=LABELS,
        style="sober",
    ),
    SEEDS,
)
Hits = dict[str, list[tuple[int, float]]]
"""For each seed's text the retrieved documents in order of rank: number and score."""

# Neighbouring seeds of a label share documents, so that one seed's shot can be another's input.
HITS: Hits = {
    seed.text: [((place * 3 + rank) % 24, 0.95 - rank / 10) for rank in range(7)]
    for place, seed in enumerate(SEEDS)
}


def text_of(number: int) -> str:
    return SEEDS[number].text if number < 2 else f"Document {number} tells a long story. It ends."


def build(task: Task = TASK, /, **settings: Any) -> SynthesizRR:
    settings = {"min_document_tokens": 0, "last_rank": 7} | settings
    method: Method = SynthesizRRSettings.model_validate(settings).build(task)
    assert isinstance(method, SynthesizRR)
    return method


async def never(prompt: Prompt, sampling: Sampling) -> Reply:
    raise AssertionError("nothing is generated here")


def sources(method: SynthesizRR, hits: Hits = HITS, text: Any = text_of, **tools: Any) -> Sources:
    async def retrieve(queries: Sequence[str], ranks: int) -> list[list[Any]]:
        return [
            [
                SimpleNamespace(
                    document=SimpleNamespace(id=f"d{n}", title=None, text=text(n)), rank=r, score=s
                )
                for r, (n, s) in enumerate(hits[query][:ranks], 1)
            ]
            for query in queries
        ]

    return asyncio.run(method.prepare(Tools(never, Words(), retrieve, **tools)))


def plan(method: SynthesizRR, hits: Hits = HITS, round: int = 0, **tools: Any) -> list[Item]:
    return built(method, sources(method, hits, **tools), round)


def built(method: SynthesizRR, found: Sources, round: int = 0) -> list[Item]:
    slots = list(method.plan(found, round, {}))
    items = [slot.build() for slot in slots]
    assert [(item.position, item.labels) for item in items] == [slot[:2] for slot in slots]
    return items


def pairs(items: Sequence[Item]) -> Counter[tuple[str | None, str]]:
    return Counter((item.seed_id, item.documents[0].id) for item in items)


FOUND = st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), max_size=7, unique_by=lambda hit: hit[0])


@settings(deadline=None)
@given(
    found=st.lists(FOUND, min_size=8, max_size=8),
    variant=st.sampled_from(["retricl", "non_retricl", "zero_shot"]),
    draws=st.integers(1, 3),
    reuse=st.integers(1, 4),
)
def test_any_plan_is_pure_within_ranks_and_band_and_as_long_as_its_capacity(
    found: list[list[tuple[int, float]]], variant: str, draws: int, reuse: int
) -> None:
    hits = dict(zip((seed.text for seed in SEEDS), found, strict=True))
    given = {"variant": variant, "draws": draws, "shots": {"reuse": reuse}}
    method = build(**given, similarity=(0.4, 0.9), last_rank=6)
    items = plan(method, hits)
    assert items == plan(build(**given, similarity=(0.4, 0.9), last_rank=6), hits)
    first = 1 if variant == "non_retricl" else 3
    wanted = {
        (seed.id, f"d{number}")
        for seed in SEEDS
        for rank, (number, score) in enumerate(hits[seed.text], 1)
        if first <= rank <= 6 and 0.4 <= score <= 0.9 and text_of(number) != seed.text
    }
    assert pairs(items) == dict.fromkeys(wanted, draws)
    assert method.capacity(sources(method, hits)) == {
        label: sum(item.labels == (label,) for item in items) for label in LABELS
    }
    assert len({item.id for item in items}) == len(items)
    assert [item.position for item in items] == list(range(len(items)))
    for item in items:
        assert (item.seed_id or "").startswith(item.labels[0])
        assert all(shot.text.startswith(f"Gold {item.labels[0]} ") for shot in item.shots)
        assert len({shot.id for shot in item.shots}) == len(item.shots)
        assert item.documents[0].text not in [shot.document for shot in item.shots]
        assert variant != "non_retricl" or item.seed_id not in [shot.id for shot in item.shots]
        assert variant != "zero_shot" or not item.shots


@pytest.mark.parametrize("render", ["raw", "chat"])
@pytest.mark.parametrize("variant", ["retricl", "non_retricl", "zero_shot"])
def test_the_prompt_is_the_golden_one(variant: str, render: str) -> None:
    story = {number: text_of(number) if variant == "retricl" else None for number in (2, 3)}
    shots = tuple(Shot(f"s{n}", SEEDS[n].text, story[n]) for n in story if variant != "zero_shot")
    source = (Grounding("d4", text_of(4), 0.5),)
    item = make_item("key", 0, 0, ("sport",), seed_id="sport0", documents=source, shots=shots)
    prompt = as_text(build(variant=variant, render=render).prompt(item))
    golden = GOLDEN / f"synthesizrr_{variant}_{render}.txt"
    assert f"{prompt}\n" == golden.read_text(encoding="utf-8")


PINS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "retricl": ({}, "387bf0d2677cb056", "97e4dec47c8fda4c", "afa07cb78cfd8d1e"),
    "draws": ({"shots": 2, "draws": 3}, "0aff7afc6a8ef753", "09fcc4f9425e235e", "91cd492d0f9ff732"),
    "gold": (
        {"variant": "non_retricl", "shots": 2},
        "9b1c3391074ba648", "9b1bb0d1e24f0a6e", "a22a88ceb3ac3093",
    ),
    "zero": ({"variant": "zero_shot"}, "e98adfda580178d8", "869d5146200a4e78", "465c336d74d7c8f2"),
    "code": ({"preset": "published_code"}, "c85c001e05eeeb83", "50b2b04d5d3079ef", "51389a236adda079"),
}  # fmt: skip


@pytest.mark.parametrize("name", PINS)
def test_the_plan_is_that_of_earlier_versions(name: str) -> None:
    # Ledgers hold these ids: a version that changes one cannot go on with an earlier run.
    settings, key, first, every = PINS[name]
    method = build(**settings)
    items = plan(method, band=(0.4, 0.9)) if "preset" in settings else plan(method)
    hashed = blake2b("".join(item.id for item in items).encode(), digest_size=8).hexdigest()
    assert (method.plan_key[:16], items[0].id[:16], hashed) == (key, first, every)


@pytest.mark.parametrize("variant", ["retricl", "non_retricl"])
def test_items_in_a_row_share_shots_that_give_none_of_them_away(variant: str) -> None:
    hits = {
        seed.text: [(30 + place * 9 + rank, 0.5) for rank in range(9)] for place, seed in enumerate(SEEDS)
    }
    once = plan(build(variant=variant, last_rank=9), hits)
    items = plan(build(variant=variant, shots={"count": 2, "reuse": 3}, last_rank=9, draws=2), hits)
    assert pairs(items) == dict.fromkeys(pairs(once), 2)
    groups = [list(group) for _, group in groupby(items, lambda item: (item.labels, item.draw, item.shots))]
    assert len(groups) < len(items) / 2
    for group in groups:
        assert all(len(item.shots) == 2 for item in group)
        shown = {shot.id for shot in group[0].shots}
        assert not shown & {item.seed_id for item in group}
        assert not {name.split("/")[-1] for name in shown} & {item.documents[0].id for item in group}
    # Each label's inputs make as few groups as they can.
    inputs = len(once) // 2
    assert len(groups) == 2 * 2 * ceil(inputs / 3)


def test_shared_shots_leave_out_what_any_item_of_the_group_is_written_from() -> None:
    # Two seeds, each of whose inputs is the other's shot: alone an item has a shot, together they have none.
    task = Task(TASK.settings, (SEEDS[2], SEEDS[3], SEEDS[4]))
    hits: Hits = {SEEDS[2].text: [(8, 0.5), (9, 0.5)], SEEDS[3].text: [(9, 0.5), (8, 0.5)], SEEDS[4].text: []}
    alone, together = (
        plan(build(task, shot_ranks=1, shots={"count": 2, "reuse": reuse}), hits) for reuse in (1, 2)
    )
    assert [len(item.shots) for item in alone] == [1, 1]
    assert [len(item.shots) for item in together] == [0, 0]


def test_labels_take_turns_over_pools_shuffled_by_a_fixed_seed() -> None:
    items = plan(build(variant="zero_shot"))
    assert [item.labels[0] for item in items[:4]] == ["sport", "trade", "sport", "trade"]
    order = [(item.seed_id, item.documents[0].id) for item in items if item.labels == ("sport",)]
    wanted = [(seed.id, f"d{number}") for seed in SEEDS[:4] for number, _ in HITS[seed.text][2:]]
    random.Random(42).shuffle(wanted)
    assert order == wanted
    again = plan(build(variant="zero_shot", rewrite="Write."), round=1)
    assert [item.documents for item in again] == [item.documents for item in items]
    assert not {item.id for item in again} & {item.id for item in items}


def test_each_draw_of_a_pair_is_an_item_with_shots_of_its_own() -> None:
    items = [item for item in plan(build(shots=2, draws=5)) if item.seed_id == "sport1"]
    assert [item.draw for item in items] == sorted(list(range(5)) * (len(items) // 5))
    assert len({tuple(shot.id for shot in item.shots) for item in items}) > 5


def test_shots_of_retricl_are_the_first_ranks_within_their_own_band() -> None:
    items = plan(build(shot_ranks=3, shot_similarity=(0.8, 0.9), similarity=(0.4, 0.6), shots=9))
    scores = {(seed.id, f"d{n}"): s for seed in SEEDS for n, s in HITS[seed.text] if text_of(n) != seed.text}
    shown = {tuple(shot.id.split("/")) for item in items for shot in item.shots}
    assert shown == {pair for pair, score in scores.items() if 0.8 <= score <= 0.9}
    assert set(pairs(items)) == {pair for pair, score in scores.items() if 0.4 <= score <= 0.6}


@pytest.mark.parametrize("band", [None, (0.3, 0.6)])
def test_the_band_of_the_encoder_holds_until_a_recipe_sets_one(band: tuple[float, float] | None) -> None:
    method = build(variant="zero_shot", shot_ranks=0, similarity=band)
    low, high = band or (0.5, 0.7)
    planned = pairs(built(method, sources(method, band=(0.5, 0.7))))
    scores = {(seed.id, f"d{n}"): s for seed in SEEDS for n, s in HITS[seed.text] if text_of(n) != seed.text}
    assert set(planned) == {pair for pair, score in scores.items() if low <= score <= high}


def test_the_band_of_published_code_leaves_ranks_alone_where_scores_are_no_similarities() -> None:
    # BM25's scores have no upper bound; a band that the recipe sets is one of such scores.
    hits: Hits = {
        seed.text: [(place * 7 + rank, 30.0 - rank) for rank in range(7)]
        for place, seed in enumerate(SEEDS, 1)
    }
    ranks = pairs(plan(build(), hits))
    assert len(ranks) == len(SEEDS) * 5
    items = plan(build(preset="published_code"), hits)
    assert pairs(items) == ranks and all(item.shots for item in items)
    assert plan(build(preset="published_code"), hits, band=(0.4, 0.9)) == []
    own = plan(build(preset="published_code", similarity=(25, 28), shot_similarity=(29.5, 30)), hits)
    assert {item.documents[0].score for item in own} == {25, 26, 27, 28}
    shown = {shot.id for item in own for shot in item.shots}
    assert shown == {f"{seed.id}/d{place * 7}" for place, seed in enumerate(SEEDS, 1)}


def test_short_documents_are_left_out_and_long_ones_cut_at_a_sentence_end() -> None:
    def text(number: int) -> str:
        return "Too short." if number % 2 else f"It rained on day {number}. They went on to play until night."

    method = build(variant="zero_shot", min_document_tokens=5, document_tokens=8)
    texts = {row["id"]: row["text"] for row in sources(method, text=text)["documents"].to_pylist()}
    assert texts == {f"d{n}": f"It rained on day {n}." for n in range(0, 24, 2)}


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("One. Two three", "One. Two three"),
        ("One two? Three four five", "One two?"),
        ('He said "yes." Then he went', 'He said "yes."'),
        ("It cost 3.5 euros then", "It cost 3.5"),
        ("no sentence ends here at all", "no sentence ends"),
        ("雨停了。比赛 开始 了 然后 结束", "雨停了。"),
    ],
)
def test_a_document_is_cut_at_its_last_sentence_end_or_else_at_the_tokens(text: str, cut: str) -> None:
    assert cut_at_sentence(text, Words(), 3) == cut


def test_a_long_seed_found_in_the_corpus_is_no_source_of_itself() -> None:
    long = Gold("long", {"text": "The first sentence has eight words in it. The second follows."}, "sport")
    task = Task(TASK.settings, (long, SEEDS[4]))
    method = build(task, variant="zero_shot", shot_ranks=0, document_tokens=8)
    hits: Hits = {long.text: [(0, 0.8)], SEEDS[4].text: []}
    assert list(method.plan(sources(method, hits, lambda number: long.text), 0, {})) == []


def test_published_code_has_the_constants_of_its_scripts_and_a_recipe_key_wins() -> None:
    code = SynthesizRRSettings(preset="published_code")
    assert (code.document_tokens, code.similarity, code.shot_similarity) == (400, (0.4, 0.9), (0.5, 0.9))
    assert (code.pieces, code.header_stops, code.shot_ranks, code.last_rank) == ("all", False, 2, 50)
    counts = [build(variant=name).settings.shot_count for name in ("retricl", "non_retricl", "zero_shot")]
    assert counts == [3, 32, 0]
    assert SynthesizRRSettings(preset="published_code", document_tokens=9).document_tokens == 9
    with pytest.raises(ValueError, match="'publish' is unknown; known: published_code"):
        SynthesizRRSettings(preset="publish")


STOPS = ("\nNews Article:", "\nHeadline:")


@pytest.mark.parametrize(("preset", "stop", "kept"), [(None, STOPS, 1), ("published_code", (), 2)])
def test_a_reply_is_read_and_stopped_as_preset(preset: str | None, stop: tuple[str, ...], kept: int) -> None:
    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        assert sampling == Sampling(temperature=0.95, top_p=0.9, max_tokens=200, stop=stop)
        return Reply("Cup final.\nHeadline: Rain.", "stop", 1, 1)

    method = build(preset=preset)
    outcomes = asyncio.run(method.examples(plan(method)[0], generate))
    assert sum(isinstance(outcome, Example) for outcome in outcomes) == kept


def test_what_cannot_be_worked_is_a_settings_error_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match=r"task\.seeds: label trade has no seed"):
        build(Task(TASK.settings, SEEDS[:4]))
    with pytest.raises(SettingsError, match=r"method\.shots: zero_shot shows none; remove it"):
        build(variant="zero_shot", shots=1)
    with pytest.raises(SettingsError, match="add `corpus` to the recipe"):
        asyncio.run(build().prepare(Tools(never, Words())))
