"""A replica without Ray: items in, rows and vitals out, within the grant, whatever methods and engines do."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cluster.errors import ModelError
from cluster.purse import Currency
from cluster.work import Loaded, Outcome, Vitals
from synth import rows, worker
from synth.judge import JudgeSettings
from synth.method import Generate, MethodSettings
from synth.prompting import as_text
from synth.records import Call, Example, Item, Prompt, Rejection, Reply, Sampling, make_item
from synth.task import Task, TaskSettings
from synth.teacher import Capacity, Engine, EngineDied, TeacherRefuses, TeacherSettings
from synth.worker import Assignment, Worker

SAMPLING = Sampling(max_tokens=10)
TOKENS = (Currency("tokens", 1, 1),)
PROMPT, REPLY = 5, 3
"""Tokens of every prompt and reply."""


@dataclass
class ByHand:
    """An engine whose replies are let out by hand; a prompt in `raises` raises."""

    revision: str = "r1"
    raises: dict[str, Exception] = field(default_factory=dict)
    open: bool = True
    asked: list[str] = field(default_factory=list)
    closed: bool = False

    def __post_init__(self) -> None:
        self.gate = asyncio.Event()
        self.inside = 0

    def capacity(self) -> Capacity:
        return Capacity(12, 8, {"kind": "by hand"})

    def busy(self) -> tuple[int, int]:
        return min(self.inside, 8), max(self.inside - 8, 0)

    def prompt_tokens(self, prompt: Prompt) -> int:
        return PROMPT

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        prompt = as_text(prompt)
        self.asked.append(prompt)
        self.inside += 1
        try:
            if not self.open:
                await self.gate.wait()
            if prompt in self.raises:
                raise self.raises[prompt]
        finally:
            self.inside -= 1
        return Reply(f"Re: {prompt}.", "stop", PROMPT, REPLY)

    async def close(self) -> None:
        self.closed = True


@dataclass
class Teacher:
    """What a worker asks of a teacher's settings; real ones of a test's own would be offered in recipes."""

    made: ByHand
    in_flight: int | None = None
    item_timeout: float = 600.0
    model: str = "m"

    async def engine(self) -> Engine:
        return self.made


Examples = Callable[[Item, Generate], Any]


@dataclass
class Asking:
    """A method that a test gives as a function."""

    examples: Examples
    name: str = "asking"

    def build(self, task: Task) -> "Asking":
        return self


async def once(item: Item, generate: Generate) -> list[Example | Rejection]:
    reply = await generate(f"p{item.position}", SAMPLING)
    return [Example({"text": reply.text}, "a")]


def item(n: int) -> Item:
    return make_item("key", 0, n, ("a",), draw=n)


class Desk:
    """A loaded worker and its engine."""

    def __init__(self, engine: ByHand, ask: Examples, currencies: tuple[Currency, ...], **more: Any) -> None:
        self.engine = engine
        task = Task(TaskSettings(name="t", instruction="i", labels={"a": "A", "b": "B"}), ())
        method, teacher = cast(MethodSettings, Asking(ask)), cast(TeacherSettings, Teacher(engine, **more))
        self.worker = Worker(Assignment(task, method, teacher, "r1", currencies))

    async def exchange(self, *items: Item | Call, granted: tuple[float, ...] = ()) -> Outcome:
        return await self.worker.exchange(items, granted=granted)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats of a twentieth of a second, and a node without Ray."""

    async def where(self: Worker) -> str:
        return "node"

    monkeypatch.setattr(Worker, "where", where)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(worker, "LINGER_SECONDS", 0.005)


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Any]]:
    """Makes loaded desks and stops them in the end."""
    desks: list[Desk] = []

    async def make(
        engine: ByHand | None = None,
        ask: Examples = once,
        currencies: tuple[Currency, ...] = (),
        **more: Any,
    ) -> Desk:
        desk = Desk(engine or ByHand(), ask, currencies, **more)
        await desk.worker.load()
        desks.append(desk)
        return desk

    yield make
    for desk in desks:
        await desk.worker.stop()
        assert desk.engine.closed


async def test_a_loaded_replica_says_what_its_engine_asks_for_unless_the_recipe_does(made: Any) -> None:
    desk = await made()
    assert await desk.worker.load() == Loaded("node", 12, 8, {"kind": "by hand"})
    desk = await made(in_flight=3)
    assert (await desk.worker.load()).in_flight == 3


async def test_an_engine_of_another_revision_is_refused() -> None:
    with pytest.raises(ModelError, match="revision r2 is on this node, r1 where the run was begun"):
        await Desk(ByHand("r2"), once, ()).worker.load()


async def test_a_teacher_that_will_refuse_every_call_condemns_no_item(made: Any) -> None:
    desk = await made(ByHand(raises={"p0": TeacherRefuses("the key is wrong")}))
    outcome = await desk.exchange(item(0), item(1))
    assert outcome.hopeless == "the key is wrong"
    assert (outcome.settled, outcome.errors) == ((item(1).id,), ())


async def test_a_judge_with_a_teacher_of_its_own_is_asked_at_its_own_price_and_closed_with_the_other() -> (
    None
):
    writer, second = ByHand(), ByHand("j1")
    task = Task(TaskSettings(name="t", instruction="i", labels={"a": "A", "b": "B"}), ())
    judge = JudgeSettings(then="record").model_copy(update={"teacher": Teacher(second)})
    rates = (Currency("tokens", 2, 2),)
    method, teacher = cast(MethodSettings, Asking(once)), cast(TeacherSettings, Teacher(writer))
    assignment = Assignment(
        task, method, teacher, "r1", TOKENS, judge=judge, judge_revision="j1", judge_rates=rates
    )
    work = Worker(assignment)
    await work.load()
    outcome = await work.exchange([item(0)], granted=(1000.0,))
    assert outcome.rows is not None
    (row,) = outcome.rows.to_pylist()
    assert dict(row["verdicts"]) == {"judge": "gave no verdict"} and len(row["prompt_hashes"]) == 4
    assert [row[name] for name in rows.TOKENS] == [PROMPT, REPLY, 3 * PROMPT, 3 * REPLY]
    assert outcome.vitals.used == (7.0 * (PROMPT + REPLY),)
    await work.stop()
    assert writer.closed and second.closed
    with pytest.raises(ModelError, match="revision j1 is on this node, j2"):
        await Worker(replace(assignment, judge_revision="j2")).load()


async def test_a_judge_without_one_is_the_teacher_itself() -> None:
    engine = ByHand()
    task = Task(TaskSettings(name="t", instruction="i", labels={"a": "A", "b": "B"}), ())
    method, teacher = cast(MethodSettings, Asking(once)), cast(TeacherSettings, Teacher(engine))
    work = Worker(Assignment(task, method, teacher, "r1", judge=JudgeSettings()))
    await work.load()
    outcome = await work.exchange([item(0)])
    assert outcome.rows is not None
    (row,) = outcome.rows.to_pylist()
    assert (row["status"], row["reason"], row["text"]) == ("rejected", "judge_unreadable", "Re: p0.")
    assert [row[name] for name in rows.TOKENS] == [4 * PROMPT, 4 * REPLY, 0, 0]
    await work.stop()


async def test_before_it_is_loaded_a_replica_works_nothing_and_has_spent_nothing() -> None:
    desk = Desk(ByHand(), once, TOKENS)
    outcome = await desk.exchange(item(0), granted=(9.0,))
    assert outcome.errors[0][1].startswith("RuntimeError: the replica was given work before it was loaded")
    assert outcome.vitals == Vitals(used=(0.0,), wanted=(0.0,))


async def test_items_and_calls_come_back_as_rows_with_their_provenance(made: Any) -> None:
    desk = await made()
    call = Call("c" * 32, "topics", SAMPLING)
    outcome = await desk.exchange(item(0), item(1), call)
    assert set(outcome.settled) == {item(0).id, item(1).id, call.id}
    rows = {row["item_id"]: row for row in outcome.rows.to_pylist()}
    assert {row["text"] for row in rows.values()} == {"Re: p0.", "Re: p1.", "Re: topics."}
    row = rows[item(0).id]
    assert (row["status"], row["prompt_tokens"], row["reply_tokens"]) == ("accepted", PROMPT, REPLY)
    assert (row["method"], row["teacher"], row["revision"]) == ("asking", "m", "r1")
    assert row["sampling"] == '{"temperature": 0.95, "top_p": 0.9, "max_tokens": 10, "stop": []}'
    assert rows[call.id]["status"] == "prepared"
    again = await desk.exchange()
    assert (again.rows, again.settled) == (None, ())


async def test_an_item_that_raises_and_one_that_takes_too_long_settle_alone(made: Any) -> None:
    async def ask(work: Item, generate: Generate) -> list[Example | Rejection]:
        if work.position == 1:
            raise TimeoutError("by the method itself")
        if work.position == 2:
            await asyncio.Event().wait()
        return await once(work, generate) if work.position else []

    desk = await made(ask=ask, item_timeout=0.2)
    outcomes = [await desk.exchange(*(item(n) for n in range(4)))]
    while not any(each.timed_out for each in outcomes):
        outcomes.append(await desk.exchange())
    assert [name for each in outcomes for name in each.timed_out] == [item(2).id]
    assert dict(error for each in outcomes for error in each.errors) == {
        item(1).id: "TimeoutError: by the method itself",
        item(2).id: "no reply within 0 s",
    }
    rows = [row for each in outcomes if each.rows is not None for row in each.rows.to_pylist()]
    assert {row["item_id"]: row["status"] for row in rows} == {item(0).id: "failed", item(3).id: "accepted"}


@pytest.mark.parametrize("text", [7, "\ud800", ["a"]])
async def test_rows_that_no_ledger_holds_fail_their_item_and_no_other(made: Any, text: Any) -> None:
    async def ask(work: Item, generate: Generate) -> list[Example | Rejection]:
        good = await once(work, generate)
        return good if work.position else [Rejection("odd", text, "a")]

    desk = await made(ask=ask)
    outcome = await desk.exchange(item(0), item(1))
    assert (outcome.settled, [name for name, _ in outcome.errors]) == ((item(1).id,), [item(0).id])
    assert outcome.rows.num_rows == 1
    assert "the method returned what no row can hold" in outcome.errors[0][1]


async def test_a_dead_engine_ends_the_process(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []

    def end(code: int) -> None:
        ended.append(code)
        raise RuntimeError("ended")

    monkeypatch.setattr(os, "_exit", end)
    desk = await made(ByHand(raises={"p0": EngineDied("no core")}))
    await desk.exchange(item(0))
    assert ended == [1]


async def test_running_out_of_memory_fails_an_item_and_the_replica_goes_on(made: Any) -> None:
    desk = await made(ByHand(raises={"p0": MemoryError("too long")}))
    outcome = await desk.exchange(item(0), item(1))
    assert outcome.settled == (item(1).id,)
    assert outcome.errors == ((item(0).id, "MemoryError: too long"),)


async def test_calls_wait_for_a_grant_and_the_driver_hears_of_it_at_once(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 60.0)
    desk = await made(currencies=TOKENS)
    outcome = await asyncio.wait_for(desk.exchange(item(0), item(1), granted=(0.0,)), 1)
    assert outcome.vitals == Vitals(0, 0, blocked=2, used=(0.0,), wanted=(30.0,))
    assert desk.engine.asked == []
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.05)
    assert (await desk.exchange(granted=(14.0,))).vitals.wanted == (16.0,)
    outcome = await desk.exchange(granted=(15.0,))
    # 8 are spent; what the reply did not need of the 15 is not enough for the next.
    assert (outcome.settled, outcome.vitals.used) == ((item(0).id,), (8.0,))
    assert (outcome.vitals.blocked, outcome.vitals.wanted) == (1, (8.0,))
    assert (await desk.exchange(granted=(23.0,))).settled == (item(1).id,)


async def test_the_time_an_item_may_take_does_not_run_while_it_waits_for_a_grant(made: Any) -> None:
    desk = await made(currencies=TOKENS, item_timeout=0.1)
    for _ in range(6):
        outcome = await desk.exchange(*([item(0)] if _ == 0 else []), granted=(0.0,))
        assert (outcome.errors, outcome.vitals.blocked) == ((), 1)
    assert (await desk.exchange(granted=(15.0,))).settled == (item(0).id,)


async def test_the_time_runs_while_any_call_of_the_item_is_under_way(made: Any) -> None:
    async def ask(work: Item, generate: Generate) -> list[Example | Rejection]:
        await asyncio.gather(generate("one", SAMPLING), generate("two", SAMPLING))
        return []

    desk = await made(ByHand(open=False), ask, TOKENS, item_timeout=0.1)
    outcomes = [await desk.exchange(item(0), granted=(20.0,)) for _ in range(1)]
    outcomes += [await desk.exchange() for _ in range(4)]
    assert [name for each in outcomes for name in each.timed_out] == [item(0).id]
    # One call was under way and is paid in full; the other never started.
    assert (outcomes[-1].vitals.used, outcomes[-1].vitals.blocked) == ((15.0,), 0)


async def test_what_a_call_may_have_cost_is_paid_when_it_raises_or_is_dropped(made: Any) -> None:
    engine = ByHand(raises={"p0": RuntimeError("no")})
    desk = await made(engine, currencies=TOKENS)
    outcome = await desk.exchange(item(0), granted=(40.0,))
    assert (len(outcome.errors), outcome.vitals.used) == (1, (15.0,))
    engine.open = False
    outcome = await desk.exchange(item(1), item(2))
    assert (outcome.vitals.running, outcome.vitals.blocked) == (1, 1)
    assert await desk.worker.drop() == Vitals(0, 0, 0, used=(30.0,), wanted=(0.0,))
    assert (await desk.exchange()).settled == ()


async def test_dropping_ends_the_calls_that_a_method_left_behind(made: Any) -> None:
    async def ask(work: Item, generate: Generate) -> list[Example | Rejection]:
        async def fail() -> None:
            await asyncio.sleep(0)
            raise RuntimeError("one of two")

        await asyncio.gather(generate("left behind", SAMPLING), fail())
        return []

    desk = await made(ByHand(open=False), ask, TOKENS)
    outcome = await desk.exchange(item(0), granted=(99.0,))
    assert (outcome.errors[0][1], outcome.vitals.running) == ("RuntimeError: one of two", 1)
    assert await desk.worker.drop() == Vitals(0, 0, 0, used=(15.0,), wanted=(0.0,))


async def test_in_a_hurry_an_exchange_returns_at_once(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "BEAT_SECONDS", 60.0)
    desk = await made(ByHand(open=False))
    outcome = await asyncio.wait_for(desk.worker.exchange([item(0)], hurry=True), 1)
    assert outcome == Outcome(vitals=Vitals())


@pytest.mark.parametrize(("in_line", "settled"), [(worker.ENOUGH, 2), (worker.ENOUGH - 1, 1)])
async def test_only_while_its_engine_has_enough_in_line_a_replica_waits_for_more_to_bring(
    made: Any, in_line: int, settled: int
) -> None:
    async def ask(item: Item, generate: Generate) -> list[Example | Rejection]:
        if item.position > 1:
            return await once(item, generate)
        await asyncio.sleep(0.05 * item.position)
        return [Example({"text": "done"}, "a")]

    desk = await made(ByHand(open=False), ask)
    outcome = await desk.exchange(*(item(n) for n in range(2 + 8 + in_line)))
    assert len(outcome.settled) == settled
    desk.engine.gate.set()


async def test_enough_finished_items_are_brought_at_once(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(item: Item, generate: Generate) -> list[Example | Rejection]:
        if item.position >= worker.ENOUGH:
            return await once(item, generate)
        await asyncio.sleep(0.001 * item.position)
        return [Example({"text": "done"}, "a")]

    monkeypatch.setattr(worker, "UNHURRIED_SECONDS", 60)
    desk = await made(ByHand(open=False), ask)
    async with asyncio.timeout(10):
        outcome = await desk.exchange(*(item(n) for n in range(2 * worker.ENOUGH + 8)))
    assert len(outcome.settled) == worker.ENOUGH
    desk.engine.gate.set()
