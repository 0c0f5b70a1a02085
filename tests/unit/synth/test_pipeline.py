"""Between pool and ledger: strikes, re-queued items, suspects, tallies, and when the run gives up."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.errors import TooManyFailures
from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.pool import Outcome
from cluster.storage import LocalStore
from synth import records
from synth.pipeline import ATTEMPTS, MAX_FAILED_SHARE, MIN_FAILED, Committer, ItemSource, Tally
from synth.planner import Planner
from synth.records import Author, Item, ledger_schema, make_item

AUTHOR = Author("fewgen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))
USES = [records.Usage("h", records.Sampling(), 10, 3)]


class Run:
    """A source over an endless plan of one label, and the ledger it writes to."""

    def __init__(self, folder: Path, target: int = 100) -> None:
        self.store = LocalStore(folder)
        self.committer = Committer(Ledger(self.store, acquire(self.store), SCHEMA))
        self.tally = Tally()
        plan = (make_item("key", 0, n, ("a",), draw=n) for n in count())
        self.planner = Planner(plan, {"a": target}, {}, 10.0)
        self.source = ItemSource(self.planner, self.committer, self.tally, AUTHOR)

    def lot(self, size: int, *held: Item) -> list[Item]:
        return self.source.next_lot(size, {item.id for item in held})

    def rows(self) -> list[dict[str, Any]]:
        asyncio.run(self.committer.flush())
        return [row for table in read_ledger(self.store) for row in table.to_pylist()]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def accepted(*items: Item) -> Outcome:
    """Each item with a row accepted and a row rejected."""
    rows: list[dict[str, Any]] = []
    for item in items:
        good = records.Example({"text": f"Text {item.position}."}, "a")
        bad = records.Rejection("run_on", "More.", "a")
        rows += records.settled_rows(item, [good, bad], USES, AUTHOR, "text")
    return Outcome(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), tuple(item.id for item in items))


def raised(item: Item) -> Outcome:
    return Outcome(errors=((item.id, "no memory"),))


def test_an_item_aboard_two_dying_replicas_is_set_aside_as_failed_in_one_row(run: Run) -> None:
    (item,) = run.lot(1)
    run.source.lost([item], "killed")
    assert (run.rows(), run.tally.failed, run.source.unfinished()) == ([], 0, 1)
    assert run.lot(1) == [item]
    run.source.lost([item], "killed again")
    (row,) = run.rows()
    assert (row["item_id"], row["status"], row["labels"]) == (item.id, "failed", ["a"])
    assert row["reason"] == "its replica was lost: killed again"
    assert (run.tally.failed, run.tally.settled, run.tally.rows["failed"]) == (1, 1, 1)
    assert (run.source.unfinished(), run.planner.in_flight) == (0, 0)
    assert run.lot(1)[0].position == 1


def test_what_a_dead_replica_held_comes_before_new_items_in_its_order_one_suspect_at_a_time(run: Run) -> None:
    held = run.lot(3)
    run.source.lost(held, "killed")
    lots = run.lot(3), run.lot(3), run.lot(3)
    assert [[item.position for item in lot] for lot in lots] == [[0, 3, 4], [1, 5, 6], [2, 7, 8]]


def test_a_replica_that_holds_a_suspect_gets_no_second_one(run: Run) -> None:
    run.source.lost(run.lot(2), "killed")
    (suspect,) = run.lot(1)
    assert [item.position for item in run.lot(2, suspect)] == [2, 3]
    run.source.settle(accepted(suspect))
    assert [item.position for item in run.lot(2, suspect)] == [1, 4]


def test_an_innocent_item_aboard_with_a_killer_survives_it(run: Run) -> None:
    killer, innocent = run.lot(2)
    run.source.lost([killer, innocent], "killed")
    run.source.lost(run.lot(1), "killed")
    assert run.lot(1) == [innocent]
    run.source.settle(accepted(innocent))
    statuses = {row["item_id"]: row["status"] for row in run.rows() if row["piece"] == 0}
    assert statuses == {killer.id: "failed", innocent.id: "accepted"}


def test_rows_are_tallied_and_committed_once_an_exchange_brings_them(run: Run) -> None:
    items = run.lot(2)
    run.source.settle(accepted(*items))
    run.source.settle(Outcome())
    assert run.tally.rows == {"accepted": 2, "rejected": 2, "rejected:run_on": 2}
    assert run.tally.accepted == {"a": 2}
    assert [run.tally.settled, run.tally.prompt_tokens, run.tally.reply_tokens] == [2, 20, 6]
    assert run.planner.quota.kept == {"a": 2}
    assert [row["text"] for row in run.rows()] == ["Text 0.", "More.", "Text 1.", "More."]


def test_what_is_not_waited_for_any_more_is_unfinished_and_no_more_is_given_out(tmp_path: Path) -> None:
    run = Run(tmp_path, target=2)
    first, second = run.lot(5)
    run.source.lost([second], "killed")
    run.source.settle(accepted(first))
    (again,) = run.lot(5)
    run.source.settle(raised(again))
    more = run.lot(5)
    run.source.settle(accepted(*more))
    assert run.source.done()
    assert (run.lot(5), run.source.unfinished()) == ([], run.planner.drawn - run.tally.settled)


def test_a_run_whose_items_fail_is_stopped_with_the_last_reason_and_what_failed_is_kept(run: Run) -> None:
    with pytest.raises(TooManyFailures, match=rf"{MIN_FAILED} of {MIN_FAILED} items .*: no memory"):
        while True:
            (item,) = run.lot(1)
            run.source.settle(raised(item))
    assert [row["status"] for row in run.rows()] == ["failed"] * MIN_FAILED


def test_failures_below_the_bearable_share_do_not_stop_a_run(tmp_path: Path) -> None:
    run = Run(tmp_path, target=1000)
    good = round(MIN_FAILED / MAX_FAILED_SHARE)
    run.source.settle(accepted(*run.lot(good)))
    for _ in range(ATTEMPTS * MIN_FAILED):
        (item,) = run.lot(1)
        run.source.settle(raised(item))
    assert run.tally.failed == MIN_FAILED


def test_a_method_that_returns_nothing_stops_the_run_as_other_failures_do(run: Run) -> None:
    with pytest.raises(TooManyFailures):
        for item in run.lot(100):
            row = records.failed_row(item, "the method returned nothing", AUTHOR)
            run.source.settle(Outcome(pa.RecordBatch.from_pylist([row], schema=SCHEMA), (item.id,)))
