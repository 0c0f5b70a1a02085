"""Rephrasing: which rows are rewritten, what is asked, and which replies are taken."""

import json
import pickle
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError, SettingsError
from synth.filters.settings import FilterSettings
from synth.filters.sieve import Sieve
from synth.method import Sources
from synth.methods.rephrase import Rephrase, RephraseSettings
from synth.prompting import as_text
from synth.records import Example, Item, Rejection, Reply
from synth.task import Task
from tests.unit.synth.method_desk import (
    LABELS,
    Teacher,
    headlines,
    is_golden,
    pairs,
    planned,
    prepared,
    worked,
)

Rows = Iterable[Mapping[str, Any]]
SPORT = [f"Only number {n} wins the long cup of the year" for n in range(8)]
TRADE = [f"Shares number {n} fall in the long winter of the year" for n in range(6)]
NEWS = [
    {"text": text, "label": label} for label, texts in (("sport", SPORT), ("trade", TRADE)) for text in texts
]
PLAIN = [
    {"text": "A quiet day of sailing", "label": "sport"},
    {"text": "A quiet day at sea", "label": "trade"},
]


def rows_in(folder: Path, rows: Rows) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(folder: Path, rows: Rows = (*NEWS, *PLAIN), task: Task | None = None, **settings: Any) -> Rephrase:
    given = {"rows": rows_in(folder, rows), "terms": ["only", "shares", "long"], **settings}
    return RephraseSettings.model_validate(given).build(headlines(0) if task is None else task)


def sources_of(method: Rephrase) -> Sources:
    teacher = Teacher(lambda _: "never asked")
    sources = prepared(method, teacher)
    assert teacher.asked == []
    return sources


def items_of(method: Rephrase, items: int = 100) -> list[Item]:
    return planned(method, items, sources_of(method))


def ask(method: Rephrase, *replies: str | Reply) -> tuple[list[Example | Rejection], Teacher]:
    """Work the first item with a teacher that gives these replies in turn, the last one for ever."""
    left = list(replies)
    teacher = Teacher(lambda _: left.pop(0) if len(left) > 1 else left[0])
    return worked(method, items_of(method, 1)[0], teacher), teacher


def item_with_terms(method: Rephrase) -> Item:
    return next(item for item in items_of(method) if "terms" in item.attributes)


@pytest.mark.parametrize("render", ["chat", "raw"])
def test_the_prompt_is_the_golden_one(render: str, tmp_path: Path) -> None:
    method = build(tmp_path, render=render)
    assert is_golden(method.prompt(items_of(method)[0]), f"rephrase_{render}")
    one = build(tmp_path, render=render, terms=["only"])
    assert 'Do not use "only". Keep' in as_text(one.prompt(items_of(one)[0]))


def test_a_field_is_rewritten_beside_the_others(tmp_path: Path) -> None:
    rows = [{**gold.fields, "label": gold.label} for gold in pairs(3).seeds]
    method = build(tmp_path, rows, pairs(0), terms=["gold hypothesis"], field="hypothesis")
    item = items_of(method)[0]
    assert is_golden(method.prompt(item), "rephrase_pair_chat")
    (made,) = worked(method, item, Teacher(lambda _: "The entailment 0 is gold."))
    assert isinstance(made, Example)
    assert made.fields == {"text": "Gold text entailment 0.", "hypothesis": "The entailment 0 is gold."}
    with pytest.raises(SettingsError, match=r"method.field: 'claim' is no field; the task has text"):
        build(tmp_path, rows, pairs(0), field="claim")


@pytest.mark.parametrize("render", ["chat", "raw"])
def test_a_further_attempt_names_what_remained(render: str, tmp_path: Path) -> None:
    replies = ("Only one wins a long race.", "", "It wins a cup of the year.")
    made, teacher = ask(build(tmp_path, render=render), *replies)
    assert made == [Example({"text": replies[2]}, "sport", {"rephrased": "yes", "attempts": "3"})]
    assert is_golden(teacher.asked[1][0], f"rephrase_again_{render}")
    # An empty reply has nothing to be named.
    assert teacher.prompts[2] == teacher.prompts[0] != teacher.prompts[1]


def test_rows_take_turns_by_label_once_each_and_keep_their_order(tmp_path: Path) -> None:
    method = build(tmp_path)
    items = items_of(method)
    assert Counter(item.labels[0] for item in items) == {"sport": 9, "trade": 7}
    assert [item.labels[0] for item in items] == ["sport", "trade"] * 7 + ["sport"] * 2
    texts = [item.attributes["original_text"] for item in items if item.labels == ("sport",)]
    assert texts == [*SPORT, "A quiet day of sailing"]
    assert len({item.seed_id for item in items}) == 16
    assert method.capacity(sources_of(method)) == {"sport": 9, "trade": 7}


def test_the_plan_is_the_same_each_time_and_another_in_each_round(tmp_path: Path) -> None:
    method = build(tmp_path)
    sources = sources_of(method)
    assert planned(method, 99, sources) == planned(method, 99, sources)
    again = planned(method, 99, sources, round=1)
    assert not {item.id for item in again} & {item.id for item in planned(method, 99, sources)}
    slots = list(method.plan(sources, 0, {}))
    assert [slot.build() for slot in reversed(slots)] == planned(method, 99, sources)[::-1]


def test_items_hash_what_the_rows_say_and_not_where_they_lie(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    ids = [item.id for item in items_of(build(here))]
    assert [item.id for item in items_of(build(there))] == ids
    more = items_of(build(there, [*NEWS, *PLAIN, {"text": "One more", "label": "trade"}]))
    assert not {item.id for item in more} & set(ids)


def test_settings_go_to_replicas_that_do_not_see_the_rows(tmp_path: Path) -> None:
    method = build(tmp_path)
    sources = sources_of(method)
    sent = pickle.dumps(method.settings)
    (tmp_path / "rows.jsonl").unlink()
    there = pickle.loads(sent).build(headlines(0))
    assert there.plan_key == method.plan_key
    assert planned(there, 99, sources) == planned(method, 99, sources)
    with pytest.raises(DataError, match=r"rows.jsonl: is not there"):
        RephraseSettings(rows=str(tmp_path / "rows.jsonl")).build(headlines(0))


def test_rows_without_bound_terms_pass_without_a_call_or_are_left_out(tmp_path: Path) -> None:
    teacher = Teacher(lambda _: "A number for the winter cup of the year.")
    method = build(tmp_path)
    made = {item.attributes["original_text"]: worked(method, item, teacher) for item in items_of(method)}
    # One call for each row that carries a term, none for the others.
    assert len(teacher.asked) == 14
    for row in PLAIN:
        assert made[row["text"]] == [Example({"text": row["text"]}, row["label"], {"rephrased": "no"})]
    bare = build(tmp_path, only_rewritten=True)
    assert bare.capacity(sources_of(bare)) == {"sport": 8, "trade": 6}
    assert all("terms" in item.attributes for item in items_of(bare))


def test_an_item_carries_its_own_terms_first_and_all_that_are_to_be_avoided(tmp_path: Path) -> None:
    by_label = {"sport": ["CUP", "only", "never"], "trade": ["the long"]}
    items = items_of(build(tmp_path, terms=by_label))
    assert items[0].attributes == {
        "original_text": SPORT[0],
        "terms": "cup, only",
        "avoid": "cup, only, never",
    }
    assert items[1].attributes["avoid"] == "the long"
    with pytest.raises(SettingsError, match=r"method.terms: 'art' is no label; the task has sport, trade"):
        build(tmp_path, terms={"art": ["a"]})


def test_terms_are_found_when_none_are_given(tmp_path: Path) -> None:
    task = headlines(0, LABELS | {"sport": "who wins a match"})
    rows = [{"text": f"Only team {n} wins the long cup", "label": "sport"} for n in range(20)]
    rows += [{"text": f"Shares: team {n} fall in the long winter", "label": "trade"} for n in range(15)]
    method = build(tmp_path, rows, task, terms=[], keep=["Shares"])
    bound = sources_of(method)["terms"].to_pylist()
    # `wins` is in the label's description and `shares` is kept, so their pairs stay too.
    assert [(each["term"], each["label"]) for each in bound] == [
        ("cup", "sport"),
        ("only", "sport"),
        ("fall", "trade"),
        ("winter", "trade"),
    ]
    assert (bound[1]["inside"], bound[1]["outside"]) == (20, 0)
    few = build(tmp_path, rows, task, terms=[], keep=["Shares"], most=1)
    assert sources_of(few)["terms"]["term"].to_pylist() == ["cup", "fall"]
    # What has to be found is decided by the settings.
    for settings in ({"min_rows": 21}, {"odds": 10_000}, {"significance": 1e-12}):
        with pytest.raises(DataError, match="none of 35 rows"):
            sources_of(build(tmp_path, rows, task, terms=[], **settings))


def test_rows_that_carry_nothing_are_no_work_and_told_so(tmp_path: Path) -> None:
    for settings in ({"terms": ["absent"]}, {"terms": [], "min_rows": 50}):
        with pytest.raises(
            DataError, match=r"none of 16 rows has a term bound to its label.*method.min_rows"
        ):
            sources_of(build(tmp_path, **settings))


@pytest.mark.parametrize(
    ("reply", "reason", "text"),
    [
        ("Only one wins.", "still_bound", "Only one wins."),
        ("A LONG way.", "still_bound", "A LONG way."),
        (f' "{SPORT[0].upper()}!" ', "unchanged", f"{SPORT[0].upper()}!"),
        ("A person who plays.", "strayed", "A person who plays."),
        ("  ", "empty", ""),
        ("Here it is:", "empty", ""),
        (Reply("It wins a cup of the year", "length", 1, 1), "cut_off", "It wins a cup of the year"),
    ],
)
def test_replies_that_do_not_do_are_refused_after_all_attempts(
    reply: str | Reply, reason: str, text: str, tmp_path: Path
) -> None:
    made, teacher = ask(build(tmp_path), reply)
    assert made == [Rejection(reason, text, "sport")]
    assert len(teacher.asked) == 3
    kept, teacher = ask(build(tmp_path, unmended="keep", attempts=2), reply)
    told = {"rephrased": "no", "why": reason, "attempts": "2"}
    assert kept == [Example({"text": SPORT[0]}, "sport", told)]
    assert len(teacher.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        "It wins a cup of the year.",
        ' "It wins a cup of the year." ',
        "Headline: It wins a cup of the year.",
        "Sure, here is the rewritten headline:\n\nIt wins a cup of the year.",
        "Rewritten without both words:\nIt wins a cup of the year.",
        "Here's a new headline without those words: It wins a cup of the year.",
        "**New headline:** It wins a cup of the year.\n\nNote: I left out only and long.",
        Reply("It wins a cup of the year.\n\n(I removed the words", "length", 1, 1),
    ],
)
def test_what_a_chat_model_says_around_the_text_is_left_out(reply: str | Reply, tmp_path: Path) -> None:
    made, _ = ask(build(tmp_path), reply)
    assert made == [
        Example({"text": "It wins a cup of the year."}, "sport", {"rephrased": "yes", "attempts": "1"})
    ]


def test_paragraphs_and_openings_of_the_original_may_stay(tmp_path: Path) -> None:
    rows = [{"text": "Here is the news: only rain.\n\nMore of it.", "label": "sport"}]
    made, _ = ask(build(tmp_path, rows), "Here are the tidings: rain.\n\nAnd more.")
    assert isinstance(made[0], Example)
    assert made[0].fields["text"] == "Here are the tidings: rain.\n\nAnd more."


def test_a_greedy_teacher_is_warmed_for_further_attempts(tmp_path: Path) -> None:
    _, teacher = ask(build(tmp_path, sampling={"temperature": 0}, stop=["###"]), "Only one.")
    assert [sampling.temperature for _, sampling in teacher.asked] == [0.0, 0.7, 0.7]
    assert {sampling.stop for _, sampling in teacher.asked} == {("###",)}
    _, teacher = ask(build(tmp_path, render="raw"), "It wins a cup of the year.")
    assert teacher.asked[0][1].stop == ("\nHeadline:",)
    assert teacher.asked[0][1].max_tokens == 512


def test_the_default_filters_let_a_faithful_rewriting_and_untouched_rows_pass(tmp_path: Path) -> None:
    method, sieve = build(tmp_path), Sieve(FilterSettings(), headlines(0), ())
    teacher = Teacher(lambda _: "Just number 0 wins the big cup of the year")
    for item in (items_of(method)[0], items_of(method)[-1]):
        (made,) = sieve.sift(item, worked(method, item, teacher))
        assert isinstance(made, Example)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"terms": ["!"]}, "'!' has no word in it"),
        ({"keep": [""]}, "'' has no word in it"),
        ({"attempts": 0}, "attempts"),
        ({"significance": 0.5}, "significance"),
        ({"unmended": "drop"}, "unmended"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        RephraseSettings.model_validate({"rows": "rows.jsonl", **wrong})


def test_a_template_that_fails_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="prompt template"):
        build(tmp_path, rewrite="Rewrite {{ nothing }}.")
