"""The scripted teacher: the same words in every run, and each misbehaviour as its setting says."""

import asyncio
import os
import time
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from synth.filters.reading import Reading
from synth.filters.refusals import refuses
from synth.prompting import chat, read_reply
from synth.records import Example, Message, Prompt, Rejection, Reply, Sampling, Structure
from synth.structured import Unparsed, choice_structure, json_structure
from synth.structured import read as read_structure
from synth.teachers.scripted import REFUSALS, ScriptedEngine, ScriptedSettings, Words

PROMPT = "News Article: Clouds came over the ground.\n\nWrite a headline about sport.\nHeadline:"
MANY = range(400)


def ask(
    settings: ScriptedSettings, prompt: Prompt = PROMPT, seed: int = 0, stop: tuple[str, ...] = ()
) -> Reply:
    return asyncio.run(ScriptedEngine(settings).generate(prompt, Sampling(stop=stop), seed))


def ask_often(settings: ScriptedSettings, seeds: Sequence[int] = MANY) -> list[Reply]:
    """One reply per seed, all calls in flight at once."""

    async def all_of_them() -> list[Reply]:
        engine = ScriptedEngine(settings)
        return await asyncio.gather(*(engine.generate(PROMPT, Sampling(), seed) for seed in seeds))

    return asyncio.run(all_of_them())


def read(reply: Reply) -> list[str]:
    outcomes = read_reply(reply, "sport", ["Headline"])
    if refuses(Reading(reply.text)):
        return ["refusal"]
    return [outcome.reason if isinstance(outcome, Rejection) else "ok" for outcome in outcomes]


def test_a_prompt_and_seed_get_the_same_reply_from_every_engine() -> None:
    settings = ScriptedSettings(refuse=0.2, empty=0.2, run_on=0.2, repeat=0.2, cut_off=0.5)
    assert ask_often(settings) == [ask(settings, seed=seed) for seed in MANY[:40]] + ask_often(settings)[40:]
    assert len({reply.text for reply in ask_often(ScriptedSettings())}) == len(MANY)
    assert ask(ScriptedSettings(), PROMPT) != ask(ScriptedSettings(), f"{PROMPT} ")


def test_a_reply_has_the_words_asked_for_from_the_prompt_and_true_counts() -> None:
    reply = ask(ScriptedSettings(words=7))
    assert len(reply.text.split()) == reply.reply_tokens == 7
    assert set(reply.text.removesuffix(".").split()) <= set(PROMPT.split())
    assert (reply.prompt_tokens, reply.finish_reason) == (len(PROMPT.split()), "stop")
    assert read(reply) == ["ok"]


def test_a_chat_and_an_empty_prompt_are_answered_too() -> None:
    assert read(ask(ScriptedSettings(), (Message("user", "Write a headline about sport."),))) == ["ok"]
    assert ask(ScriptedSettings(words=2), "").text == "text text."


@pytest.mark.parametrize("kind", ["refuse", "empty", "run_on", "cut_off", "repeat"])
def test_a_share_of_one_is_every_reply_and_of_none_is_no_reply(kind: str) -> None:
    always = ask_often(ScriptedSettings.model_validate({kind: 1}))
    texts, seen = {reply.text for reply in always}, [read(reply) for reply in always]
    told = {"refuse": ["refusal"], "empty": ["empty"], "run_on": ["ok", "run_on"], "cut_off": ["cut_off"]}
    assert seen == [told.get(kind, ["ok"])] * len(MANY)
    assert (texts == set(REFUSALS)) == (kind == "refuse")
    assert (len(texts) == 1) == (kind in {"empty", "repeat"})
    never = [read(reply) for reply in ask_often(ScriptedSettings())]
    assert never == [["ok"]] * len(MANY)


def test_shares_stand_side_by_side_and_are_met() -> None:
    settings = ScriptedSettings(refuse=0.25, empty=0.25, run_on=0.25)
    seen = [read(reply) for reply in ask_often(settings)]
    shares = [seen.count(kind) / len(MANY) for kind in (["refusal"], ["empty"], ["ok", "run_on"], ["ok"])]
    # Four standard errors of a quarter among 400.
    assert shares == pytest.approx([0.25] * 4, abs=0.09)


def test_a_chat_reply_runs_on_under_a_header_too() -> None:
    prompt = chat([], PROMPT.removesuffix("\nHeadline:"))
    assert read(ask(ScriptedSettings(run_on=1), prompt, stop=("\nHeadline:", "\n\n"))) == ["ok", "run_on"]


def test_raise_on_fails_prompts_with_the_text_and_no_others() -> None:
    settings = ScriptedSettings(raise_on="Clouds")
    with pytest.raises(RuntimeError, match="the script says"):
        ask(settings)
    assert read(ask(settings, "Sun.\nHeadline:")) == ["ok"]


def test_stall_on_never_answers_while_other_prompts_go_on() -> None:
    async def both() -> Reply:
        engine = ScriptedEngine(ScriptedSettings(stall_on="Clouds"))
        stalled = asyncio.ensure_future(engine.generate(PROMPT, Sampling(), 0))
        reply = await engine.generate("Sun.\nHeadline:", Sampling(), 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stalled, 0.05)
        await engine.close()
        return reply

    assert read(asyncio.run(both())) == ["ok"]


def test_hang_on_freezes_the_process_and_die_on_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, float]] = []
    monkeypatch.setattr(time, "sleep", lambda seconds: called.append(("sleep", seconds)))
    monkeypatch.setattr(os, "_exit", lambda code: called.append(("exit", code)))
    settings = ScriptedSettings(hang_on="Clouds", die_on="sport")
    ask(settings, "Sun.\nHeadline:")
    assert called == []
    ask(settings)
    assert called == [("sleep", 3600), ("exit", 1)]


def test_seconds_pass_before_a_reply_without_blocking_other_calls() -> None:
    start = time.monotonic()
    ask_often(ScriptedSettings(seconds=0.1), MANY[:20])
    assert 0.1 <= time.monotonic() - start < 1.9


async def test_beyond_its_seats_requests_wait_their_turn_and_the_engine_says_so() -> None:
    engine = ScriptedEngine(ScriptedSettings(seconds=0.1, seats=4))
    start = time.monotonic()
    calls = [asyncio.ensure_future(engine.generate(PROMPT, Sampling(), seed)) for seed in range(10)]
    await asyncio.sleep(0.05)
    assert engine.busy() == (4, 6)
    await asyncio.gather(*calls)
    assert 0.3 <= time.monotonic() - start < 10
    assert engine.busy() == (0, 0)


def test_an_engine_says_what_it_can_hold_and_counts_prompts_exactly() -> None:
    engine = ScriptedEngine(ScriptedSettings(seats=10))
    assert (engine.capacity().in_flight, engine.capacity().seats) == (15, 10)
    assert ScriptedEngine(ScriptedSettings()).capacity().seats == 64
    assert engine.prompt_tokens(PROMPT) == ask(ScriptedSettings()).prompt_tokens
    assert (ScriptedSettings(needs_gpus=0.5).gpus(), ScriptedSettings().gpus()) == (0.5, 0)


def test_an_instant_reply_costs_next_to_nothing() -> None:
    began = time.process_time()
    ask_often(ScriptedSettings(), range(5000))
    # 15 µs on an ordinary core, and as much again for the task of each call; far below the pool's own cost.
    assert (time.process_time() - began) / 5000 < 200e-6


def test_what_shapes_replies_is_the_revision_and_what_shapes_time_is_not() -> None:
    first = ScriptedSettings().check()
    assert ScriptedEngine(ScriptedSettings()).revision == first
    assert ScriptedSettings(seconds=5, replicas=3, die_on="x", in_flight=2).check() == first
    changed = [ScriptedSettings(words=3).check(), ScriptedSettings(run_on=0.5).check()]
    assert len({first, *changed}) == 3
    with pytest.raises(ValidationError, match="refuse"):
        ScriptedSettings(refuse=1.5)


@settings(deadline=None)
@given(text=st.text(alphabet="ab \n\t", max_size=60), tokens=st.integers(1, 12))
def test_words_are_counted_and_cut_at_a_prefix(text: str, tokens: int) -> None:
    words = Words()
    cut = words.cut(text, tokens)
    assert text.startswith(cut)
    assert words.count(cut) == min(tokens, words.count(text))
    assert cut == text or words.count(text) > tokens


def test_settings_build_their_own_engine_and_tokenizer() -> None:
    settings = ScriptedSettings()
    assert isinstance(asyncio.run(settings.engine()), ScriptedEngine)
    assert settings.tokenizer().count("two words") == 2
    assert settings.resolve() is settings
    assert [type(o) for o in read_reply(ask(settings), "sport", ["Headline"])] == [Example]


FEELING = choice_structure(["glad", "sad"])
REVIEW = json_structure(
    {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "short": {"type": "string", "minLength": 30, "maxLength": 40},
            "label": {"enum": ["glad", "sad"]},
            "kind": {"const": "review"},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "even": {"type": "integer", "multipleOf": 2, "exclusiveMinimum": 4, "exclusiveMaximum": 8},
            "true": {"type": "boolean"},
            "nothing": {"type": ["null", "string"]},
            "list": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
            "none": {"type": "array", "maxItems": 0},
            "either": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            "node": {"$ref": "#/$defs/node"},
        },
        "required": ["text", "more"],
        "additionalProperties": {"type": "integer"},
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
    }
)


def ask_for(settings: ScriptedSettings, structure: Structure, seeds: Sequence[int] = MANY) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        engine = ScriptedEngine(settings)
        return [await engine.generate(PROMPT, Sampling(structure=structure), seed) for seed in seeds]

    return asyncio.run(all_of_them())


def values(replies: Sequence[Reply], structure: Structure) -> list[Any]:
    return [read_structure(r.text, structure, r.finish_reason != "length") for r in replies]


@pytest.mark.parametrize("structure", [REVIEW, FEELING])
def test_a_structured_reply_fits_and_is_the_same_in_every_run(structure: Structure) -> None:
    replies = ask_for(ScriptedSettings(words=5), structure)
    assert replies == ask_for(ScriptedSettings(words=5), structure)
    found = values(replies, structure)
    assert [value for value in found if isinstance(value, Unparsed)] == []
    assert all(reply.finish_reason == "stop" for reply in replies)
    if structure is FEELING:
        assert 150 < found.count("glad") < 250
    else:
        assert len({value["text"] for value in found}) > 0.95 * len(MANY)
        assert set(found[0]["text"].removesuffix(".").split()) <= set(PROMPT.split())


def test_a_share_of_structured_replies_is_mangled_and_some_of_those_can_be_read() -> None:
    for structure in (REVIEW, FEELING):
        found = values(ask_for(ScriptedSettings(mangle=1), structure), structure)
        unread = sum(isinstance(value, Unparsed) for value in found) / len(MANY)
        assert 0.1 < unread < 0.6
        half = ask_for(ScriptedSettings(mangle=0.5), structure)
        same = [a == b for a, b in zip(half, ask_for(ScriptedSettings(), structure), strict=True)]
        assert 0.4 < sum(same) / len(MANY) < 0.6


@pytest.mark.parametrize(
    ("rate", "reasons"),
    [
        ("refuse", {"unparsed"}),
        ("empty", {"empty"}),
        ("cut_off", {"cut_off"}),
        ("run_on", set()),
        ("repeat", set()),
    ],
)
def test_the_other_rates_hold_for_structured_replies_too(rate: str, reasons: set[str]) -> None:
    replies = ask_for(ScriptedSettings.model_validate({rate: 1}), REVIEW)
    found = values(replies, REVIEW)
    assert {value.reason for value in found if isinstance(value, Unparsed)} == reasons
    assert (len({reply.text for reply in replies}) == 1) == (rate in {"empty", "repeat"})
    assert any(isinstance(value, Unparsed) for value in found) == bool(reasons)


def test_a_schema_beyond_the_script_is_refused_by_name() -> None:
    schema = json_structure({"type": "object", "properties": {"a": {"type": "string", "pattern": "a+"}}})
    with pytest.raises(ValueError, match="pattern"):
        ask_for(ScriptedSettings(), schema, [0])


def test_what_was_written_before_structures_is_written_still() -> None:
    script = ScriptedSettings(words=6, refuse=0.1, empty=0.1, run_on=0.2, repeat=0.1, cut_off=0.2)
    assert script.check() == "dfc86b44a443"
    texts = "\n".join(f"{reply.finish_reason} {reply.text}" for reply in ask_often(script))
    assert blake2b(texts.encode(), digest_size=8).hexdigest() == "e34e32a7cbf9ddc9"
    assert ScriptedSettings(mangle=0.5).check() != ScriptedSettings().check()
