"""The bedrock teacher over real HTTP: what is asked again, how many at once, and how often in a minute."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import cast

import pytest

from synth import worker
from synth.item_clock import ItemClock
from synth.method import Generate, MethodSettings
from synth.records import Example, Item, Rejection, Sampling, make_item
from synth.task import Task, TaskSettings
from synth.teachers.bedrock_engine import BedrockEngine
from synth.teachers.patience import NoReply
from synth.worker import Assignment, Worker
from tests.bedrock_endpoint import (
    MODEL,
    SAMPLING,
    SESSION,
    THROTTLED,
    Answer,
    Asked,
    BedrockEndpoint,
    ask,
    error,
    page,
    said,
    teacher,
)

# --- what is asked again


CUT = Answer(body=said("whole").body, sent=0.5)
PASSING = [
    THROTTLED,
    error(503, "ServiceUnavailableException"),
    error(429, "ModelNotReadyException"),
    error(408, "ModelTimeoutException"),
    error(424, "ModelErrorException"),
    error(500, "InternalServerException"),
    error(502, "BadGateway"),
    page(500),
    page(200),
    CUT,
    Answer(body=b'{"output": '),
    Answer(body=b"[1, 2]"),
    Answer(body=b""),
    Answer(body=b'{"output": {"message": {"role": "assistant"}}, "stopReason": "end_turn"}'),
    Answer(body=json.dumps({"output": {"message": {"role": "assistant", "content": []}}}).encode()),
    said("too late", after=30),
]


@pytest.mark.parametrize("answer", PASSING, ids=lambda answer: f"{answer.status} {answer.body[:30]!r}")
async def test_what_may_pass_is_asked_again(server: BedrockEndpoint, answer: Answer) -> None:
    server.next += [answer, answer]
    (reply,) = await ask(server, "p", timeout=0.5, attempts=3)
    assert reply.text == "Re: p."
    assert len(server.asked) == 3


async def test_a_call_that_keeps_failing_ends_alone_when_others_do_not(server: BedrockEndpoint) -> None:
    server.answering = lambda asked: (
        error(500, "InternalServerException") if asked.prompt == "bad" else said("x")
    )
    engine = await teacher(server.url, attempts=3).engine()
    await engine.generate("good", SAMPLING, 0)
    with pytest.raises(NoReply, match="after 3 attempts; the last: 500 InternalServerException"):
        await engine.generate("bad", SAMPLING, 0)
    assert (await engine.generate("good", SAMPLING, 0)).text == "x"
    await engine.close()


async def test_concurrency_rises_to_what_is_let_through_and_falls_when_it_is_not(
    server: BedrockEndpoint,
) -> None:
    def answer(asked: Asked) -> Answer:
        return THROTTLED if server.inside > 5 else said("x", after=0.02)

    server.answering = answer
    engine = await teacher(server.url, concurrency=32, attempts=2).engine()
    assert isinstance(engine, BedrockEngine)
    replies = await asyncio.gather(*(engine.generate(f"p{n}", SAMPLING, 0) for n in range(150)))
    assert len(replies) == 150
    assert engine.pace.limit <= 10
    assert len(server.asked) < 300
    server.answering = lambda asked: said("x", after=0.02)
    server.most_inside = 0
    await asyncio.gather(*(engine.generate(f"p{n}", SAMPLING, 0) for n in range(400)))
    await engine.close()
    assert 12 <= server.most_inside <= 32


async def test_a_pause_that_is_asked_for_is_kept_by_all_calls_and_off_the_items_clock(
    server: BedrockEndpoint,
) -> None:
    server.next.append(error(429, "ThrottlingException", "slow down", retry_after="2"))
    engine = await teacher(server.url, item_timeout=300, concurrency=4).engine()

    async def item(n: int) -> str:
        async with ItemClock(1.2):
            return (await engine.generate(f"p{n}", SAMPLING, 0)).text

    first = asyncio.create_task(item(0))
    while not server.asked:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    replies = await asyncio.gather(first, *(item(n) for n in range(1, 4)))
    await engine.close()
    assert len(replies) == 4
    times = [asked.at for asked in server.asked]
    assert min(times[1:]) - times[0] > 1.9


# --- quotas


async def test_requests_a_minute_are_kept_whatever_else_may_be_sent(server: BedrockEndpoint) -> None:
    server.next += [THROTTLED, THROTTLED]
    begun = time.monotonic()
    replies = await ask(server, *(f"p{n}" for n in range(18)), requests_per_minute=600)
    times = sorted(asked.at for asked in server.asked)
    assert (len(replies), len(times)) == (18, 20)
    # Ten at once, and then one every tenth of a second.
    assert times[-1] - begun > 0.9
    assert all(later - earlier > 0.9 for earlier, later in zip(times, times[19:], strict=False))


async def test_replicas_share_the_quota_and_waiting_for_it_is_off_the_items_clock(
    server: BedrockEndpoint,
) -> None:
    engine = await teacher(server.url, requests_per_minute=240, replicas=4).engine()

    async def item() -> str:
        async with ItemClock(0.9):
            return (await engine.generate("p", SAMPLING, 0)).text

    begun = time.monotonic()
    tasks = [asyncio.create_task(item()) for _ in range(3)]
    while engine.busy() != (0, 2):
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert time.monotonic() - begun > 1.9
    assert engine.busy() == (0, 0)
    await engine.close()


async def test_a_quota_of_tokens_counts_what_was_really_used(server: BedrockEndpoint) -> None:
    engine = await teacher(server.url, tokens_per_minute=6000).engine()
    begun = time.monotonic()
    for _ in range(8):
        await engine.generate("p", Sampling(max_tokens=500), 0)
    # A hundred a second: 18 are used each time, of 501 that might be.
    assert time.monotonic() - begun < 20
    server.answering = lambda asked: said("x", inputTokens=143, outputTokens=7)
    begun = time.monotonic()
    for _ in range(4):
        await engine.generate("p", Sampling(max_tokens=500), 0)
    assert time.monotonic() - begun > 2.5
    await engine.close()


async def test_cancelling_a_call_frees_its_place(server: BedrockEndpoint) -> None:
    server.next.append(said("late", after=5))
    engine = await teacher(server.url, concurrency=2).engine()
    task = asyncio.create_task(engine.generate("p", SAMPLING, 0))
    while not server.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert engine.busy() == (0, 0)
    assert (await engine.generate("q", SAMPLING, 0)).text == "Re: q."
    server.closing.set()
    await engine.close()


async def test_a_replica_loses_nothing_to_a_service_that_misbehaves(
    server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, dice = [answer for answer in PASSING if not answer.after], random.Random(5)

    def answer(asked: Asked) -> Answer:
        return dice.choice(faults) if dice.random() < 0.3 else said(f"About {asked.prompt}.")

    server.answering = answer
    desk = await loaded(server, monkeypatch)
    outcomes = [await desk.exchange([item(n) for n in range(60)])]
    while sum(len(outcome.settled) for outcome in outcomes) < 60:
        outcomes.append(await desk.exchange([]))
        assert [outcome.errors for outcome in outcomes if outcome.errors] == []
    await desk.stop()
    rows = [row for outcome in outcomes if outcome.rows is not None for row in outcome.rows.to_pylist()]
    assert {row["text"] for row in rows} == {f"About p{n}." for n in range(60)}
    assert {row["teacher"] for row in rows} == {MODEL}


async def test_a_replica_that_is_refused_tells_the_driver(
    server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answering = lambda asked: error(403, "ExpiredTokenException", SESSION)
    desk = await loaded(server, monkeypatch)
    outcome = await desk.exchange([item(0), item(1)])
    while outcome.hopeless is None:
        outcome = await desk.exchange([])
    await desk.stop()
    assert "the credentials have expired" in outcome.hopeless
    assert (outcome.settled, outcome.errors) == ((), ())
    assert SESSION[:12] not in repr(outcome)


@dataclass
class Asking:
    """A method that asks once."""

    name: str = "asking"

    def build(self, task: Task) -> "Asking":
        return self

    async def examples(self, work: Item, generate: Generate) -> list[Example | Rejection]:
        reply = await generate(f"p{work.position}", SAMPLING)
        return [Example({"text": reply.text}, "a")]


def item(n: int) -> Item:
    return make_item("key", 0, n, ("a",), draw=n)


async def loaded(server: BedrockEndpoint, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A replica without Ray."""

    async def where(self: Worker) -> str:
        return "node"

    monkeypatch.setattr(Worker, "where", where)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    task = Task(TaskSettings(name="t", instruction="i", labels={"a": "A", "b": "B"}), ())
    made = teacher(server.url)
    desk = Worker(Assignment(task, cast(MethodSettings, Asking()), made, made.check()))
    await desk.load()
    return desk
