"""Rounds in the ledger: targets that grow, rows that leave, and what later rounds know of earlier ones."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.storage import LocalStore
from synth.choice import Choice, Step, choose
from synth.curate import lay_out
from synth.method import Slot
from synth.past import read_past
from synth.planner import Planner
from synth.quota import Candidate
from synth.records import Author, Example, Item, make_item
from synth.rows import ledger_schema, settled_rows, text_hash

AUTHOR = Author("m", "t", "r")
SCHEMA = ledger_schema(("text",))
Row = tuple[int, int, str, str]
"""Round, position, label, text."""


def item(round: int, position: int, label: str) -> Item:
    return make_item("key", round, position, (label,), draw=position)


def row_id(round: int, position: int, label: str) -> str:
    return f"{item(round, position, label).id}-0"


def ids(*rows: tuple[int, int, str]) -> pa.Array:
    return pa.array([row_id(*row) for row in rows], pa.string())


def written(folder: Path, rows: Sequence[Row], shuffle: int | None = None) -> LocalStore:
    """Commit rows, each an item of its own, a part for every two of them."""
    store, rows = LocalStore(folder), list(rows)
    ledger = Ledger(store, acquire(store), SCHEMA)
    if shuffle is not None:
        Random(shuffle).shuffle(rows)
    for at in range(0, len(rows), 2):
        for round, position, label, text in rows[at : at + 2]:
            ledger.begin(round)
            made = settled_rows(
                item(round, position, label), [Example({"text": text}, label)], [], AUTHOR, "text"
            )
            ledger.commit([pa.RecordBatch.from_pylist(made, schema=SCHEMA)])
    return store


def texts(store: LocalStore, choice: Choice) -> list[str]:
    table = pa.concat_tables(read_ledger(store, ("text",)))
    return [table["text"][int(number)].as_py() for number in choice.rows]


ROWS = [
    (0, 0, "a", "a0"), (0, 1, "b", "b0"), (0, 2, "a", "a1"), (0, 3, "b", "b1"), (0, 4, "a", "a2"),
    (1, 0, "a", "a0"), (1, 1, "a", "a3"), (1, 2, "b", "b2"), (1, 3, "a", "a4"),
]  # fmt: skip


def test_a_round_has_a_folder_of_the_ledger_to_itself(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS)
    parts = store.list("ledger")
    assert {key.rpartition("/")[0] for key in parts} == {"ledger", "ledger/round-001"}
    for key in parts:
        rounds = pq.read_table(store.fetch(key))["round"].to_pylist()
        assert set(rounds) == {1 if "round-001" in key else 0}
    assert sum(table.num_rows for table in read_ledger(store)) == len(ROWS)


def test_what_a_round_made_beyond_its_targets_stays_out_of_later_ones(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS)
    steps = [Step({"a": 2, "b": 2}), Step({"a": 4, "b": 3})]
    choice = choose(store, steps[-1].targets, steps=steps)
    # a2 was over the target when it was judged: whether it was drawn at all is a matter of timing.
    assert texts(store, choice) == ["a0", "b0", "a1", "b1", "a3", "b2", "a4"]
    assert choice.surplus == {"duplicate": 1, "over_target": 1}
    assert choice.per_label == {"a": 4, "b": 3}
    without = written(tmp_path / "other", [row for row in ROWS if row[3] != "a2"], shuffle=3)
    assert texts(without, choose(without, steps[-1].targets, steps=steps)) == texts(store, choice)
    assert choose(without, steps[-1].targets, steps=steps).digest == choice.digest


def test_rows_that_leave_make_room_but_not_for_their_like(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS)
    steps = [Step({"a": 2, "b": 2}), Step({"a": 2, "b": 2}, ids((0, 0, "a"), (0, 3, "b"), (0, 4, "a")))]
    choice = choose(store, steps[-1].targets, steps=steps)
    # a2 leaves too, but it was not there: only a0 and b1 make room.
    assert texts(store, choice) == ["b0", "a1", "a3", "b2"]
    assert choice.surplus == {"duplicate": 1, "left_out": 2, "over_target": 2}
    entered = choose(store, steps[-1].targets, steps=steps, rounds=1)
    assert texts(store, entered) == ["b0", "a1"]
    assert entered.per_label == {"a": 1, "b": 1}
    before = choose(store, steps[0].targets, steps=steps[:1])
    assert texts(store, before) == ["a0", "b0", "a1", "b1"]
    assert len({each.digest for each in (choice, entered, before)}) == 3


def slots(round: int, rows: Sequence[Row]) -> Iterator[Slot]:
    for number, position, label, _ in rows:
        if number == round:
            yield Slot(position, (label,), partial(item, number, position, label))


def worked(planner: Planner, replies: Mapping[str, str]) -> list[str]:
    """Work a plan to its end, one item at a time; return the texts asked for."""
    asked = []
    while (next_item := planner.next_item()) is not None:
        text = replies[next_item.id]
        asked.append(text)
        planner.settle(next_item.id, [Candidate(next_item.labels, text_hash(text))])
    return asked


def test_a_round_draws_what_the_earlier_ones_leave_to_be_had(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS[:5])
    steps = [Step({"a": 2, "b": 2}), Step({"a": 3, "b": 2}, ids((0, 0, "a")))]
    replies = {item(round, at, label).id: text for round, at, label, text in ROWS}
    for known in (0, 1, 3):
        past = read_past(written(tmp_path / f"known{known}", ROWS[: 5 + known]), ("a", "b"))
        plan = slots(1, ROWS)
        quota = choose(store, steps[-1].targets, steps=steps, rounds=1).quota
        planner = Planner(plan, steps[-1].targets, past.settled, 5.0, 1, earlier=quota)
        planner.catch_up()
        # a0 comes again and is refused; b is full; of a two rows are lacking.
        asked = worked(planner, replies)
        assert asked == [
            text for text in ("a0", "a3", "a4") if text not in [row[3] for row in ROWS[5 : 5 + known]]
        ]
        assert planner.done()
        assert planner.filled() == {"a": 3, "b": 2}


def test_a_round_without_a_plan_only_lets_rows_go(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS[:5])
    steps = [Step({"a": 3, "b": 2}), Step({"a": 2, "b": 2}, ids((0, 0, "a"), (0, 1, "b")))]
    quota = choose(store, steps[-1].targets, steps=steps, rounds=1).quota
    planner = Planner(
        iter(()), steps[-1].targets, read_past(store, ("a", "b")).settled, 5.0, 1, earlier=quota
    )
    planner.catch_up()
    assert planner.done()
    assert planner.short() == {"b": "1 of 2 rows from 0 items; the plan has no more items"}


def test_the_dataset_has_the_weights_that_were_learned(tmp_path: Path) -> None:
    store = written(tmp_path, ROWS[:5])
    choice = choose(store, {"a": 3, "b": 2})
    weights = pa.table({"row_id": ids((0, 4, "a"), (0, 1, "b")), "weight": [0.25, 0.5]})
    lay_out(store, ("text",), {"a": 3, "b": 2}, choice, weights)
    (key,) = store.list("data")
    table = pq.read_table(store.fetch(key))
    assert table["weight"].to_pylist() == [1.0, 0.5, 1.0, 1.0, 0.25]
    assert table["text"].to_pylist() == ["a0", "b0", "a1", "b1", "a2"]
