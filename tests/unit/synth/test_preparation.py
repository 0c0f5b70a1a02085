"""What is prepared: calls through the pool, answers kept in the ledger, sources committed once."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa
import pytest

from cluster.budget import Budget
from cluster.errors import LeaseLost, RunError
from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.spending import Spent
from cluster.storage import LocalStore
from cluster.work import Outcome
from synth.committer import Committer
from synth.past import read_past
from synth.preparation import MANIFEST, CallSource, commit_sources, read_sources
from synth.records import Author, Call, Reply, Sampling
from synth.rows import ledger_schema, prepared_row
from synth.suspects import ATTEMPTS, DEATHS, TRIALS

AUTHOR = Author("targen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))
Prepare = Callable[[CallSource], Awaitable[list[Reply]]]


def answer(*calls: Call) -> Outcome:
    rows = [prepared_row(call, Reply(f"Re: {call.prompt}", "stop", 4, 2), AUTHOR) for call in calls]
    return Outcome(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), tuple(call.id for call in calls))


async def three(source: CallSource) -> list[Reply]:
    prompts = ["topics", "places", "topics"]
    return list(await asyncio.gather(*(source.generate(prompt, Sampling()) for prompt in prompts)))


class Run:
    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.lease = acquire(self.store)
        self.committer = Committer(Ledger(self.store, self.lease, SCHEMA))
        self.budget = Budget(self.store, (), (), Spent())
        self.asked: list[Call] = []

    def prepare(self, prepare: Prepare, answers: int | None = None) -> list[Reply] | None:
        """Answer so many calls, then die; None if preparing was not over by then."""
        return asyncio.run(self._prepare(prepare, answers))

    async def _prepare(self, prepare: Prepare, answers: int | None) -> list[Reply] | None:
        source = CallSource("key", self.committer, read_past(self.store, ("a",)).prepared, self.budget)
        preparing = asyncio.ensure_future(prepare(source))
        for _ in range(2):
            await asyncio.sleep(0)
        self.asked = source.next_lot("r", 100, ())
        for call in self.asked[:answers]:
            source.settle("r", answer(call))
        await self.committer.flush()
        if answers is None:
            return await preparing
        preparing.cancel()
        await asyncio.gather(preparing, return_exceptions=True)
        return None


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_calls_are_answered_each_with_its_own_reply_and_kept_in_the_ledger(run: Run) -> None:
    replies = run.prepare(three)
    assert replies == [Reply(f"Re: {prompt}", "stop", 4, 2) for prompt in ("topics", "places", "topics")]
    past = read_past(run.store, ("a",))
    assert ([past.prepared[call.id] for call in run.asked], len(past.settled)) == (replies, 0)


def test_the_same_request_asked_twice_is_two_draws_with_ids_that_stay(run: Run, tmp_path: Path) -> None:
    # Ledgers hold these ids: a version that changes one asks, and pays, for every prepared reply again.
    for each in (run, Run(tmp_path / "other")):
        each.prepare(three)
        assert [call.id[:8] for call in each.asked] == ["f59d8ffe", "1a21e313", "aecd5271"]


def test_what_was_answered_before_a_crash_is_not_asked_again(run: Run) -> None:
    assert run.prepare(three, answers=2) is None
    first = run.asked
    replies = run.prepare(three)
    assert run.asked == first[2:]
    assert run.prepare(three) == replies is not None
    assert run.asked == []
    assert sum(table.num_rows for table in read_ledger(run.store)) == 3


@pytest.mark.parametrize("way", ["raised", "lost"])
def test_a_call_that_cannot_be_answered_ends_preparing_with_the_reason(run: Run, way: str) -> None:
    def strike(source: CallSource, call: Call) -> None:
        outcome = Outcome(errors=((call.id, "no memory"),))
        if way == "lost":
            source.lost("r", [call], "no memory", innocent=False)
        else:
            source.settle("r", outcome)

    async def prepare() -> None:
        source = CallSource("key", run.committer, {}, run.budget)
        preparing = asyncio.ensure_future(source.generate("topics", Sampling()))
        await source.called.wait()
        for _ in range(ATTEMPTS if way == "raised" else DEATHS + TRIALS):
            (call,) = source.next_lot("r", 9, ())
            strike(source, call)
        assert source.next_lot("r", 9, ()) == []
        await preparing

    with pytest.raises(RunError, match=r"prepare: a teacher call failed: .*no memory"):
        asyncio.run(prepare())


def test_a_source_of_calls_is_done_when_it_is_told_so_and_gives_lots_of_the_size_asked(run: Run) -> None:
    async def prepare() -> None:
        source = CallSource("key", run.committer, {}, run.budget)
        preparing = asyncio.ensure_future(three(source))
        await source.called.wait()
        lots = [source.next_lot("r", 2, ()), source.next_lot("r", 2, ())]
        assert [[call.prompt for call in lot] for lot in lots] == [["topics", "places"], ["topics"]]
        source.settle("r", answer(*lots[0], *lots[1]))
        await preparing
        assert (source.tally.tokens.prompt, source.tally.tokens.reply) == (12, 6), "they are paid for too"
        assert not source.done()
        source.finish()
        assert source.done()

    asyncio.run(prepare())


def test_sources_come_back_as_they_were_committed_and_not_before_the_last_is_there(run: Run) -> None:
    topics = pa.table({"topic": ["rain", "snow"], "weight": [0.5, None]})
    sources = {"topics": topics, "none": topics.slice(0, 0)}
    commit_sources(run.store, sources)
    assert read_sources(run.store) == sources
    run.store.delete(MANIFEST)
    assert read_sources(run.store) is None
    commit_sources(run.store, {})
    assert read_sources(run.store) == {}


def test_a_flush_writes_one_part_or_only_renews_and_a_driver_without_lease_writes_nothing(run: Run) -> None:
    run.prepare(three)
    asyncio.run(run.committer.flush())
    assert len(run.store.list("ledger")) == 1
    run.store.write("lease/epoch-000002.json", b'{"host": "elsewhere", "pid": 1}')
    run.lease.ttl = 0
    for late in (None, answer(Call("c", "late", Sampling())).rows):
        if late is not None:
            run.committer.add(late)
        with pytest.raises(LeaseLost, match="elsewhere"):
            asyncio.run(run.committer.flush())
    assert len(run.store.list("ledger")) == 1
