"""The work of a run: rows are committed while the pool works, and however it ends."""

import asyncio
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest

from cluster.budget import Budget, Spent
from cluster.errors import LeaseLost, RunError, StorageError
from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.pool import Pool
from cluster.storage import LocalStore
from cluster.work import Outcome, Source
from synth import committer
from synth.committer import Committer
from synth.method import Slot
from synth.past import read_past
from synth.pipeline import ItemSource, work
from synth.planner import Planner
from synth.records import Author, Example, Item, make_item
from synth.rows import ledger_schema, settled_rows

AUTHOR = Author("fewgen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))


class SmallPool:
    """A pool that works one item, then fails, or waits until it is enough, maybe with a last one."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.enough = asyncio.Event()
        self.last = False

    async def run(self, source: Source) -> None:
        self.one(source)
        if self.error is not None:
            raise self.error
        await self.enough.wait()
        if self.last:
            self.one(source)

    def one(self, source: Source) -> None:
        (item,) = source.next_lot("r", 1, ())
        assert isinstance(item, Item)
        rows = settled_rows(item, [Example({"text": f"Text {item.position}."}, "a")], [], AUTHOR, "text")
        source.settle("r", Outcome(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), (item.id,)))


class Run:
    """A run folder and all that `work` needs but the pool."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.lease = acquire(self.store)
        self.committer = Committer(Ledger(self.store, self.lease, SCHEMA))
        plan = (Slot(n, ("a",), partial(make_item, "key", 0, n, ("a",), draw=n)) for n in count())
        planner = Planner(plan, {"a": 9}, read_past(self.store, ("a",)).settled, 10.0)
        self.source = ItemSource(planner, self.committer, AUTHOR, Budget(self.store, (), (), Spent()))
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1

    async def work(self, error: Exception | None = None) -> None:
        pool = cast(Pool, SmallPool(error))
        await asyncio.wait_for(work(pool, self.source, self.committer, self.tick), 10)

    def rows(self) -> int:
        return sum(table.num_rows for table in read_ledger(self.store))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(committer, "TICK_SECONDS", 0.01)
    return Run(tmp_path)


async def test_what_is_finished_is_committed_when_the_pool_fails(run: Run) -> None:
    with pytest.raises(RunError, match="broken"):
        await run.work(RunError("broken"))
    assert run.rows() == 1


@pytest.mark.parametrize("limit", ["FLUSH_SECONDS", "FLUSH_ROWS"])
async def test_rows_are_committed_while_the_pool_works(
    run: Run, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(committer, "FLUSH_SECONDS", 1e6)
    monkeypatch.setattr(committer, limit, 0.05 if limit == "FLUSH_SECONDS" else 1)
    working = asyncio.ensure_future(run.work())
    async with asyncio.timeout(5):
        while not run.rows():
            await asyncio.sleep(0.01)
    assert not working.done()
    assert run.ticks > 0
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_a_store_that_another_driver_took_ends_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(committer, "FLUSH_SECONDS", 0.05)
    run.store.write("lease/epoch-000002.json", b'{"host": "elsewhere", "pid": 1}')
    run.lease.ttl = 0
    with pytest.raises(LeaseLost, match="elsewhere"):
        await run.work()
    assert run.rows() == 0


async def test_the_last_rows_are_committed_beside_no_compaction_that_still_goes_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, loop, compact, going = SmallPool(None), asyncio.get_running_loop(), Ledger.compact, list[int]()

    def slow(book: Ledger) -> None:
        going.append(len(going))
        loop.call_soon_threadsafe(pool.enough.set)
        time.sleep(0.2)
        compact(book)
        going.pop()
        most.append(len(going))

    most: list[int] = []
    monkeypatch.setattr(Ledger, "compact", slow)
    monkeypatch.setattr(committer, "FLUSH_SECONDS", 0.0)
    pool.last = True
    await asyncio.wait_for(work(cast(Pool, pool), run.source, run.committer, run.tick), 10)
    assert (run.rows(), most) == (2, [0, 0])


async def test_a_flush_that_fails_as_the_pool_ends_is_not_passed_over(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, loop, create = SmallPool(None), asyncio.get_running_loop(), run.store.create

    def fail_once(key: str, data: bytes) -> bool:
        monkeypatch.setattr(run.store, "create", create)
        loop.call_soon_threadsafe(pool.enough.set)
        time.sleep(0.2)
        raise StorageError("no answer")

    monkeypatch.setattr(run.store, "create", fail_once)
    monkeypatch.setattr(committer, "FLUSH_SECONDS", 0.0)
    with pytest.raises(StorageError, match="no answer"):
        await asyncio.wait_for(work(cast(Pool, pool), run.source, run.committer, run.tick), 10)
