"""ReGen: what its rounds ask for, what the round trip keeps, and which documents become rows."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import SettingsError
from jobs.recipe import load_recipe
from synth.method import Feedback, Round, Sources, Tools
from synth.methods import regen
from synth.methods.regen import ReGen, ReGenSettings, one_label
from synth.records import Example, Prompt, Reply, Sampling
from synth.task import Task
from tests.unit.synth.method_desk import GOLDEN, Words, headlines, pairs, planned

RECIPES = Path(__file__).parents[3] / "jobs" / "recipes"
SPORT, TRADE = "a match or an athlete", "companies and markets"


def build(task: Task | None = None, **settings: Any) -> ReGen:
    method = ReGenSettings.model_validate(settings).build(task or headlines(seeds=0))
    assert isinstance(method, ReGen)
    return method


async def never(prompt: Prompt, sampling: Sampling) -> Reply:
    raise AssertionError("no teacher is asked")


def text_of(name: str) -> str:
    return f"Document {name} tells a story. It ends."


@dataclass
class Library:
    """Finds for each query what it is told to; embeds texts as it is told to, in two dimensions."""

    hits: Mapping[str, Sequence[tuple[str, float]]] = field(default_factory=dict)
    vectors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    asked: list[tuple[list[str], int]] = field(default_factory=list)
    embedded: list[tuple[list[str], bool]] = field(default_factory=list)

    async def retrieve(self, queries: Sequence[str], top: int) -> list[list[Any]]:
        self.asked.append((list(queries), top))
        return [
            [
                SimpleNamespace(document=self.document(name), rank=rank, score=score)
                for rank, (name, score) in enumerate(self.hits.get(query, ())[:top], 1)
            ]
            for query in queries
        ]

    async def embed(self, texts: Sequence[str], as_queries: bool) -> npt.NDArray[np.float32]:
        self.embedded.append((list(texts), as_queries))
        found = [self.vectors[text] for text in texts]
        return np.array(found, dtype=np.float32).reshape(len(texts), 2)

    def document(self, name: str) -> Any:
        return SimpleNamespace(id=name, text=text_of(name), titled_text=f"Title {text_of(name)}")


def kept(*rows: tuple[str, str, list[str]]) -> pa.Table:
    """The rows so far: label, text, document ids."""
    names = ("label", "text", "document_ids")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows])


def prepared(
    method: ReGen, library: Library, round: int = 0, feedback: Feedback | None = None, embeds: bool = True
) -> Sources:
    embed = library.embed if embeds else None
    tools = Tools(never, Words(), library.retrieve, None, embed, round, feedback or {})
    return asyncio.run(method.prepare(tools))


def told(sources: Sources) -> list[tuple[str, int, int]]:
    return [(row["stage"], row["asked"], row["got"]) for row in sources["stages"].to_pylist()]


def found(sources: Sources) -> list[tuple[str, str]]:
    return [(hit["label"], hit["document_id"]) for hit in sources["hits"].to_pylist()]


FIRST = Library(
    {
        SPORT: [("s1", 0.9), ("both", 0.8), ("s2", 0.7), ("equal", 0.5)],
        TRADE: [("both", 0.6), ("t1", 0.55), ("equal", 0.5)],
    }
)


# Rounds


def test_each_round_brings_its_share_with_something_to_spare_and_the_last_one_only_filters() -> None:
    targets = {"sport": 10, "trade": 7}
    assert list(ReGenSettings().rounds(targets)) == [
        Round({"sport": 5, "trade": 4}),
        Round({"sport": 10, "trade": 7}, ("agreement",)),
        Round({"sport": 15, "trade": 11}, ("agreement",)),
        Round({"sport": 10, "trade": 7}, ("agreement",)),
    ]
    # Spares that binary fractions only come near to are taken for what they say.
    assert ReGenSettings(spare=1.1, retrievals=1).rounds({"a": 10})[0] == Round({"a": 11})


@given(
    rows=st.integers(0, 500),
    retrievals=st.integers(1, 6),
    tenths=st.integers(10, 40),
)
def test_targets_grow_to_the_spare_and_end_at_what_is_wanted(rows: int, retrievals: int, tenths: int) -> None:
    rounds = ReGenSettings(retrievals=retrievals, spare=tenths / 10).rounds({"a": rows})
    grown = [each.targets["a"] for each in rounds]
    assert len(rounds) == retrievals + 1
    assert grown[:-1] == sorted(grown[:-1])
    assert grown[-2:] == [ceil(rows * tenths / 10 - 1e-9), rows]
    assert [each.lessons for each in rounds] == [(), *[("agreement",)] * retrievals]


# Round 0


def test_a_label_is_asked_for_by_its_verbalizer_a_template_or_a_query_of_its_own() -> None:
    library = Library()
    prepared(build(), library)
    prepared(build(query="{{ label }}: {{ verbalizer }}.", queries={"trade": "stocks"}, top=7), library)
    assert library.asked == [([SPORT, TRADE], 100), ([f"sport: {SPORT}.", "stocks"], 7)]


def test_a_document_of_two_labels_goes_to_the_one_it_is_nearer_to() -> None:
    sources = prepared(build(), FIRST)
    assert found(sources) == [
        ("sport", "s1"),
        ("sport", "both"),
        ("sport", "s2"),
        # Of equals, the first label of the task.
        ("sport", "equal"),
        ("trade", "t1"),
    ]
    assert [hit["rank"] for hit in sources["hits"].to_pylist()] == [1, 2, 3, 4, 2]
    assert told(sources) == [("retrieval", 200, 5)]
    other = prepared(build(), Library({SPORT: [("both", 0.1)], TRADE: [("both", 0.2)]}))
    assert found(other) == [("trade", "both")]


def test_items_are_the_documents_in_rank_order_labels_in_turn_and_no_call_is_made() -> None:
    method = build()
    sources = prepared(method, FIRST)
    items = planned(method, 10, sources)
    assert [(item.labels[0], item.documents[0].id) for item in items] == [
        ("sport", "s1"),
        ("trade", "t1"),
        ("sport", "both"),
        ("sport", "s2"),
        ("sport", "equal"),
    ]
    assert items[0].documents[0].score == pytest.approx(0.9)
    for item in items:
        outcomes = asyncio.run(method.examples(item, never))
        assert outcomes == [Example({"text": text_of(item.documents[0].id)}, item.labels[0])]
    assert planned(method, 10, sources) == items
    assert not {item.id for item in items} & {item.id for item in planned(method, 10, sources, round=1)}


def test_a_document_may_be_cut_at_a_sentence_end() -> None:
    sources = prepared(build(document_tokens=8), FIRST)
    assert {row["text"] for row in sources["documents"].to_pylist()} == {
        f"Document {name} tells a story. It ends." for name in ("s1", "both", "s2", "equal", "t1")
    }
    long = Library({SPORT: [("a b c", 0.5)]})
    assert prepared(build(document_tokens=8), long)["documents"]["text"].to_pylist() == [
        "Document a b c tells a story."
    ]


# Later rounds

ROWS = (("sport", "A cup was won.", ["s1"]), ("trade", "Shares fell.", ["t1"]))
ASKED = {
    "sport": f"{SPORT} [SEP] A cup was won.",
    "trade": f"{TRADE} [SEP] Shares fell.",
}


def later(hits: Mapping[str, Sequence[tuple[str, float]]], **places: tuple[float, float]) -> Library:
    """A library whose queries of the two rows lie on the two axes; documents lie where they are placed."""
    documents = {f"Title {text_of(name)}": place for name, place in places.items()}
    return Library(hits, {ASKED["sport"]: (1, 0), ASKED["trade"]: (0, 1), **documents})


def test_rows_make_the_queries_and_only_documents_that_lead_back_to_their_label_stay() -> None:
    hits = {
        ASKED["sport"]: [("s1", 0.9), ("near", 0.8), ("far", 0.7)],
        ASKED["trade"]: [("t1", 0.9), ("near", 0.5), ("own", 0.4)],
    }
    library = later(hits, near=(0.9, 0.1), far=(0.2, 0.8), own=(0.1, 0.6))
    method = build(nearest=1)
    sources = prepared(method, library, 1, {"rows": kept(*ROWS)})
    assert library.asked == [([ASKED["sport"], ASKED["trade"]], 20)]
    # What was found before is neither taken again nor embedded.
    assert library.embedded == [
        ([ASKED["sport"], ASKED["trade"]], True),
        ([f"Title {text_of(name)}" for name in ("near", "far", "own")], False),
    ]
    # `far` leads back to trade, whose query has not found it.
    assert found(sources) == [("sport", "near"), ("trade", "own")]
    assert told(sources) == [("retrieval", 40, 3), ("round trip", 3, 2)]
    assert [item.documents[0].id for item in planned(method, 9, sources, round=1)] == ["near", "own"]


def test_nearest_queries_of_two_labels_refuse_a_document() -> None:
    hits = {ASKED["sport"]: [("near", 0.8)]}
    sources = prepared(build(nearest=2), later(hits, near=(0.9, 0.1)), 1, {"rows": kept(*ROWS)})
    assert found(sources) == [] and told(sources) == [("retrieval", 40, 1), ("round trip", 1, 0)]
    assert planned(build(nearest=2), 9, sources, round=1) == []


def test_first_ranks_of_all_queries_come_before_second_ones() -> None:
    rows: list[tuple[str, str, list[str]]] = [("sport", f"Cup {n}.", []) for n in range(2)]
    queries = [f"{SPORT} [SEP] Cup {n}." for n in range(2)]
    hits = {queries[0]: [("a", 0.9), ("b", 0.8), ("c", 0.7)], queries[1]: [("d", 0.3), ("c", 0.2)]}
    vectors = {f"Title {text_of(name)}": (1.0, 0.0) for name in "abcd"}
    library = Library(hits, {**dict.fromkeys([*queries, TRADE], (0.0, 0.0)), queries[0]: (1, 0), **vectors})
    sources = prepared(build(nearest=1), library, 2, {"rows": kept(*rows)})
    # A document of several queries stands where the best of them has it.
    assert found(sources) == [("sport", name) for name in "adbc"]
    assert sources["hits"]["rank"].to_pylist() == [1, 1, 2, 2]


def test_a_label_without_rows_is_asked_for_by_its_own_query_again() -> None:
    library = Library({}, {})
    prepared(build(), library, 1, {"rows": kept(ROWS[0])})
    assert library.asked == [([TRADE, ASKED["sport"]], 20)]


def test_documents_that_any_feedback_names_are_not_taken_again() -> None:
    thrown = pa.table({"row_id": ["r"], "document_ids": [["thrown"]]})
    hits = {ASKED["sport"]: [("thrown", 0.8), ("new", 0.7)]}
    feedback = {"rows": kept(*ROWS), "agreement": thrown}
    sources = prepared(build(nearest=1), later(hits, new=(1, 0)), 1, feedback)
    assert found(sources) == [("sport", "new")]


def test_a_round_that_finds_nothing_plans_nothing_and_goes_on() -> None:
    library = later({})
    rounds: list[tuple[int, Feedback]] = [(0, {}), (1, {"rows": kept(*ROWS)})]
    for round, feedback in rounds:
        sources = prepared(build(), library, round, feedback)
        assert found(sources) == [] and sources["documents"].num_rows == 0
        assert planned(build(), 9, sources, round=round) == []
    assert library.embedded == []


def test_the_last_round_prepares_and_plans_nothing() -> None:
    library = Library()
    assert prepared(build(retrievals=2), library, 2, {"rows": kept(*ROWS)}) == {}
    assert planned(build(retrievals=2), 9, {}, round=2) == [] and library.asked == []


def test_many_queries_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regen, "SEARCHED_AT_ONCE", 3)
    rows = kept(*[("sport", f"Cup {n}.", []) for n in range(7)])
    library = Library({f"{SPORT} [SEP] Cup 6.": [("last", 1.0)]}, {})
    with pytest.raises(KeyError):
        prepared(build(), library, 1, {"rows": rows})
    assert [len(queries) for queries, _ in library.asked] == [3, 3, 2]


def test_queries_are_the_golden_ones() -> None:
    task = headlines(seeds=0)
    method = build(task, query="{{ text_type | lower | article }} about {{ verbalizer }}", query_tokens=24)
    text = "The home side won the cup on penalties. " * 5
    lines = [method.query("sport"), method.later_query("sport", text, Words())]
    assert "\n".join(lines) + "\n" == (GOLDEN / "regen_queries.txt").read_text(encoding="utf-8")


# The round trip


@given(
    seed=st.integers(0, 10_000),
    documents=st.integers(0, 30),
    queries=st.integers(0, 12),
    nearest=st.integers(1, 6),
    block=st.integers(1, 40),
)
def test_the_round_trip_is_that_of_a_slow_reference(
    seed: int, documents: int, queries: int, nearest: int, block: int
) -> None:
    rng = np.random.default_rng(seed)
    d = rng.normal(size=(documents, 3)).astype(np.float32)
    q = rng.normal(size=(queries, 3)).astype(np.float32)
    labels = rng.integers(0, 2, queries)
    wanted = []
    for each in d:
        order = sorted(range(queries), key=lambda n: -float(each @ q[n]))[:nearest]
        voters = {int(labels[n]) for n in order}
        wanted.append(voters.pop() if len(voters) == 1 else None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regen, "COMPARED_AT_ONCE", block)
        assert one_label(d, q, labels, nearest) == wanted


# Settings


def test_what_cannot_be_worked_is_told_with_a_remedy() -> None:
    with pytest.raises(SettingsError, match=r"method\.queries: 'stocks' is no label; the task has sport"):
        build(queries={"stocks": "x"})
    with pytest.raises(SettingsError, match=r"method\.query: is empty for sport"):
        build(query="{{ style or '' }}")
    with pytest.raises(SettingsError, match="nonsense"):
        build(query="{{ nonsense }}")
    with pytest.raises(SettingsError, match=r"task\.fields"):
        build(pairs(0))
    with pytest.raises(SettingsError, match="add `corpus` to the recipe"):
        asyncio.run(build().prepare(Tools(never, Words())))
    with pytest.raises(
        SettingsError, match=r"retriever\.kind: .*dense or hybrid, or set method\.retrievals to 1"
    ):
        prepared(build(), Library(), embeds=False)
    assert told(prepared(build(retrievals=1), FIRST, embeds=False)) == [("retrieval", 200, 5)]


def test_it_asks_no_teacher_and_needs_a_corpus_but_no_seeds() -> None:
    settings = ReGenSettings()
    assert settings.needs_corpus and not settings.asks_teacher and not settings.wants_seeds()
    assert settings.prepares_each_round
    assert (settings.retrievals, settings.top, settings.nearest, settings.query_tokens) == (3, 100, 5, 100)
    code = ReGenSettings(preset="published_code", top_later=9)
    assert (code.top, code.top_later) == (20, 9)


@pytest.mark.parametrize("name", ["regen", "production/regen"])
def test_the_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(RECIPES / f"{name}.yaml")
    assert (recipe.method.name, recipe.teacher.backend) == ("regen", "none")
    # Its rows are documents: held to be copies of them, all would be refused.
    assert recipe.filters.copies_document is None
