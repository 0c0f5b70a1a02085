"""Between pool and ledger: strikes, re-queued items, suspects, tallies, and when the run gives up."""

import asyncio
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cluster.budget import Budget
from cluster.errors import TooManyFailures
from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.purse import Currency
from cluster.spending import Spent
from cluster.storage import LocalStore
from cluster.work import Outcome, Vitals
from synth.breaker import BARREN, MAX_FAILED_SHARE, MIN_FAILED, WINDOW
from synth.committer import Committer
from synth.method import Slot
from synth.past import read_past
from synth.pipeline import ItemSource
from synth.planner import Planner
from synth.records import Author, Example, Item, Rejection, Sampling, Usage, make_item
from synth.rows import failed_row, ledger_schema, settled_rows
from synth.suspects import ATTEMPTS, DEATHS, TRIALS

AUTHOR = Author("fewgen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))
USES = [Usage("h", Sampling(), 10, 3)]


class Run:
    """A source over an endless plan of one label, and the ledger it writes to."""

    def __init__(self, folder: Path, target: int = 100, tokens: int | None = None) -> None:
        self.store = LocalStore(folder)
        self.committer = Committer(Ledger(self.store, acquire(self.store), SCHEMA))
        plan = (Slot(n, ("a",), partial(make_item, "key", 0, n, ("a",), draw=n)) for n in count())
        past = read_past(self.store, ("a",))
        self.planner = Planner(plan, {"a": target}, past.settled, 10.0)
        counted = () if tokens is None else (Currency("tokens", 1, 1),)
        self.budget = Budget(self.store, counted, (float(tokens),) if tokens is not None else (), Spent())
        self.source = ItemSource(self.planner, self.committer, AUTHOR, self.budget)
        self.tally = self.source.tally

    def lot(self, size: int, *held: Item, replica: str = "r") -> list[Item]:
        return self.source.next_lot(replica, size, {item.id for item in held})

    def settle(self, outcome: Outcome, replica: str = "r") -> None:
        self.source.settle(replica, outcome)

    def lost(self, *items: Item, reason: str = "killed", replica: str = "r", innocent: bool = False) -> None:
        self.source.lost(replica, items, reason, innocent)

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
        good = Example({"text": f"Text {item.position}."}, "a")
        bad = Rejection("run_on", "More.", "a")
        rows += settled_rows(item, [good, bad], USES, AUTHOR, "text")
    return Outcome(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), tuple(item.id for item in items))


def raised(item: Item) -> Outcome:
    return Outcome(errors=((item.id, "no memory"),))


def test_an_item_that_dies_alone_twice_after_two_deaths_is_set_aside_as_failed_in_one_row(run: Run) -> None:
    (item,) = run.lot(1)
    for _ in range(DEATHS + TRIALS - 1):
        run.lost(item)
        assert (run.rows(), run.tally.rows["failed"], run.source.unfinished()) == ([], 0, 1)
        assert run.lot(1) == [item]
    assert run.lot(3, item) == [], "it is alone aboard"
    run.lost(item, reason="killed again")
    (row,) = run.rows()
    assert (row["item_id"], row["status"], row["labels"]) == (item.id, "failed", ["a"])
    assert row["reason"] == "its replica was lost: killed again"
    assert run.tally.rows["failed"] == 1
    assert (run.source.unfinished(), run.planner.in_flight) == (0, 0)
    assert run.lot(1)[0].position == 1


def test_what_a_dead_replica_held_comes_before_new_items_in_its_order_one_suspect_at_a_time(run: Run) -> None:
    run.lost(*run.lot(3))
    lots = [run.lot(3, replica=name) for name in "xyz"]
    assert [[item.position for item in lot] for lot in lots] == [[0, 3, 4], [1, 5, 6], [2, 7, 8]]


def test_what_a_lost_node_held_is_handed_out_again_without_suspicion(run: Run) -> None:
    run.lost(*run.lot(3), innocent=True)
    assert [item.position for item in run.lot(4)] == [0, 1, 2, 3]


def test_an_innocent_item_aboard_with_a_killer_survives_it(run: Run) -> None:
    killer, innocent = run.lot(2)
    run.lost(killer, innocent)
    for _ in range(DEATHS + TRIALS - 1):
        assert run.lot(1) == [killer]
        run.lost(killer)
    assert run.lot(1) == [innocent]
    run.settle(accepted(innocent))
    statuses = {row["item_id"]: row["status"] for row in run.rows() if row["piece"] == 0}
    assert statuses == {killer.id: "failed", innocent.id: "accepted"}


def test_rows_are_tallied_and_committed_once_an_exchange_brings_them(run: Run) -> None:
    items = run.lot(2)
    run.settle(accepted(*items))
    run.settle(Outcome())
    assert run.tally.rows == {"accepted": 2, "rejected": 2, "rejected:run_on": 2}
    assert [run.tally.tokens.prompt, run.tally.tokens.reply] == [20, 6]
    assert run.planner.quota.kept == {"a": 2}
    assert [row["text"] for row in run.rows()] == ["Text 0.", "More.", "Text 1.", "More."]


def test_what_is_not_waited_for_any_more_is_unfinished_and_no_more_is_given_out(tmp_path: Path) -> None:
    run = Run(tmp_path, target=2)
    first, second = run.lot(5)
    run.lost(second)
    run.settle(accepted(first))
    again, *_ = run.lot(5)
    assert again == second
    run.settle(raised(again))
    more = run.lot(5)
    run.settle(accepted(*more))
    assert run.source.done()
    assert run.lot(5) == []
    assert run.source.unfinished() == run.planner.drawn - len({row["item_id"] for row in run.rows()})


def test_a_run_whose_items_fail_is_stopped_with_the_last_reason_and_what_failed_is_kept(run: Run) -> None:
    with pytest.raises(TooManyFailures, match=rf"{MIN_FAILED} of the last {MIN_FAILED} items .*: no memory"):
        while True:
            (item,) = run.lot(1)
            run.settle(raised(item))
    assert [row["status"] for row in run.rows()] == ["failed"] * MIN_FAILED


def test_failures_below_the_bearable_share_do_not_stop_a_run(tmp_path: Path) -> None:
    run = Run(tmp_path, target=10_000)
    for _ in range(10):
        run.settle(accepted(*run.lot(WINDOW // MIN_FAILED * 5)))
        for _ in range(ATTEMPTS * 5):
            (item,) = run.lot(1)
            run.settle(raised(item))
    assert run.tally.rows["failed"] == 50
    assert MAX_FAILED_SHARE * WINDOW > 20


def test_an_error_rate_that_rises_late_in_a_long_run_stops_it_at_once(tmp_path: Path) -> None:
    run = Run(tmp_path, target=10_000)
    for _ in range(20):
        run.settle(accepted(*run.lot(100)))
    with pytest.raises(TooManyFailures):
        for _ in range(ATTEMPTS * WINDOW):
            (item,) = run.lot(1)
            run.settle(raised(item))
    assert run.tally.rows["failed"] <= MAX_FAILED_SHARE * WINDOW + 1


def test_a_run_of_which_nothing_is_accepted_is_stopped_with_the_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, target=1_000_000)
    bad = [Rejection("empty", "", "a")]
    with pytest.raises(TooManyFailures, match=f"last {BARREN} items gave no accepted row.*rejected: empty"):
        for item in run.lot(2 * BARREN):
            rows = settled_rows(item, bad, USES, AUTHOR, "text")
            run.settle(Outcome(pa.RecordBatch.from_pylist(rows, schema=SCHEMA), (item.id,)))


def test_a_method_that_returns_nothing_stops_the_run_as_other_failures_do(run: Run) -> None:
    with pytest.raises(TooManyFailures):
        for item in run.lot(100):
            row = failed_row(item, "the method returned nothing", AUTHOR)
            run.settle(Outcome(pa.RecordBatch.from_pylist([row], schema=SCHEMA), (item.id,)))


def test_a_limit_of_time_lets_nothing_begin_that_would_not_end_and_stops_when_it_is_reached(run: Run) -> None:
    first, _ = run.lot(2)
    run.source.seconds = 60
    run.source.close_in(3600, "deadline")
    assert run.lot(1)
    run.source.close_in(30, "deadline")
    assert (run.lot(1), run.source.done()) == ([], False)
    run.settle(accepted(first))
    assert not run.source.done(), "what is aloft may still end"
    run.source.close_in(0, "deadline")
    assert (run.source.done(), run.source.stopped) == (True, "deadline")


def test_no_work_is_handed_out_once_the_budget_is_spent(tmp_path: Path) -> None:
    run = Run(tmp_path, tokens=100)
    granted = run.source.grant("r")
    (item,) = run.lot(1)
    assert granted[0] <= 100
    (late,) = run.lot(1, item)
    for _ in range(3):
        run.settle(Outcome(vitals=Vitals(used=(0.0,), wanted=(101.0,), blocked=2)))
    assert run.lot(1, item, late) == []
    assert (run.source.done(), run.source.stopped) == (True, "tokens")


def test_a_replica_that_has_just_finished_does_not_end_a_run_while_another_is_held_back(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path, tokens=1000)
    items = run.lot(4, replica="a")
    run.source.grant("a")
    run.settle(Outcome(vitals=Vitals(running=4, blocked=1, used=(0.0,), wanted=(1000.0,))), "a")
    run.lot(4, replica="b")
    for _ in range(4):
        run.source.grant("b")
        run.settle(Outcome(vitals=Vitals(blocked=4, used=(0.0,), wanted=(800.0,))), "b")
    # All of its items come back at once: it holds what b wants, and has nothing to do for a moment.
    run.settle(replace(accepted(*items), vitals=Vitals(used=(100.0,), wanted=(0.0,))), "a")
    assert not run.source.done() and len(run.lot(4, replica="a")) == 4
    run.source.grant("a")
    assert not run.source.done()
