"""What is read back from a ledger: every item once, in plan order, with its rows, replies and costs."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cluster import ledger as ledger_module
from cluster.errors import RunError
from cluster.lease import acquire
from cluster.ledger import Ledger
from cluster.storage import LocalStore
from synth.near import WIDTH, packed
from synth.past import Past, read_past
from synth.quota import Candidate
from synth.records import Author, Call, Example, Item, Rejection, Reply, Sampling, Usage, make_item
from synth.rows import failed_row, ledger_schema, prepared_row, settled_rows, text_hash
from synth.settled import CHUNK, Known, LedgerRows, Settled

AUTHOR = Author("fewgen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))
LABELS = ("sport", "trade", "art")
Rows = list[dict[str, Any]]


def item(position: int, *labels: str, round: int = 0) -> Item:
    return make_item("key", round, position, labels or ("sport",), draw=position)


def written(each: Item, *outcomes: Example | Rejection, tokens: tuple[int, int] = (9, 4)) -> Rows:
    return settled_rows(each, outcomes, [Usage("h", Sampling(), *tokens)], AUTHOR, "text")


def good(text: str, *labels: str) -> Example:
    return Example({"text": text}, labels[0] if len(labels) == 1 else labels or "sport")


class Run:
    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.lease = acquire(self.store)
        self.ledger = Ledger(self.store, self.lease, SCHEMA)

    def commit(self, *rows: Rows) -> None:
        flat = [row for some in rows for row in some]
        self.ledger.commit([pa.RecordBatch.from_pylist(flat, schema=SCHEMA)])

    def past(self, labels: Sequence[str] = LABELS, signed: bool = False) -> Past:
        return read_past(self.store, labels, signed)

    def heir(self) -> "Run":
        """The same run, taken over while its owner, who still believes in it, sleeps."""
        beat = {"time": 0, "released": False}
        self.store.write(f"lease/beat-{self.lease.epoch:06d}.json", json.dumps(beat).encode())
        return Run(self.store.root)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def facts(settled: Settled, round: int = 0) -> list[tuple[int, str, tuple[str, ...], list[Candidate]]]:
    return [
        (k.position, settled.id_of(round, k), k.labels, [row._replace(alone=None) for row in k.rows])
        for k in settled.walk(round)
    ]


def test_items_come_in_plan_order_with_their_accepted_rows_and_all_tokens(run: Run) -> None:
    several, refused, poison = item(5, "sport", "trade"), item(2, "trade"), item(9, "art")
    bad = Rejection("empty", "", "trade")
    run.commit(
        written(several, good("A", "sport", "trade"), Rejection("run_on", "B", "sport"), good("C", "trade"))
    )
    run.commit(written(refused, bad, bad, tokens=(100, 50)), [failed_row(poison, "killed", AUTHOR)])
    run.commit(written(item(0), good("D"), tokens=(1000, 500)))
    past = run.past()
    assert facts(past.settled) == [
        (0, item(0).id, ("sport",), [Candidate(("sport",), text_hash("D"))]),
        (2, refused.id, ("trade",), []),
        (
            5,
            several.id,
            ("sport", "trade"),
            [Candidate(("sport", "trade"), text_hash("A")), Candidate(("trade",), text_hash("C"))],
        ),
        (9, poison.id, ("art",), []),
    ]
    assert (len(past.settled), past.settled.failed) == (4, 1)
    assert (past.tokens.prompt, past.tokens.reply, past.prepared) == (1109, 554, {})


def test_an_empty_ledger_has_no_past(run: Run) -> None:
    past = run.past()
    assert (len(past.settled), facts(past.settled), past.prepared) == (0, [], {})
    assert (past.tokens.prompt, past.tokens.reply, past.settled.failed) == (0, 0, 0)


def test_rounds_are_kept_apart(run: Run) -> None:
    run.commit(written(item(0), good("A")), written(item(0, round=1), good("B")))
    run.commit(written(item(1, round=1), good("C")))
    settled = run.past().settled
    assert [position for position, *_ in facts(settled)] == [0]
    assert [name for _, name, *_ in facts(settled, 1)] == [item(0, round=1).id, item(1, round=1).id]
    assert (len(settled), facts(settled, 2)) == (3, [])


@pytest.mark.parametrize("batch", [1, 8192])
def test_prepared_replies_come_back_and_count_as_tokens_but_not_as_items(
    run: Run, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(ledger_module, "BATCH_ROWS", batch)
    calls = [Call(make_item("call", 0, n, (), draw=n).id, f"Topic {n}", Sampling()) for n in range(3)]
    replies = [Reply(f"Re {n}", "stop" if n else "length", 10 * n, n) for n in range(3)]
    rows = [prepared_row(call, reply, AUTHOR) for call, reply in zip(calls, replies, strict=True)]
    run.commit(rows[:2])
    run.commit(rows[2:], [failed_row(Call("f" * 32, "x", Sampling()), "it raised", AUTHOR)])
    run.commit(written(item(0), good("A"), tokens=(1, 1)))
    past = run.past()
    assert past.prepared == dict(zip((call.id for call in calls), replies, strict=True))
    assert (len(past.settled), past.settled.failed, past.tokens.prompt, past.tokens.reply) == (1, 0, 31, 4)


@pytest.mark.parametrize("batch", [1, 8192])
def test_of_an_item_settled_twice_the_first_part_counts(
    run: Run, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(ledger_module, "BATCH_ROWS", batch)
    run.commit(written(item(0), good("A")), written(item(1), good("B"), good("C")))
    run.commit(written(item(1), good("D")), written(item(2), good("E")))
    run.heir().commit(written(item(2), good("F")), written(item(0), good("G")), written(item(3), good("H")))
    past = run.past()
    texts = [[row.text_hash for row in rows] for *_, rows in facts(past.settled)]
    assert texts == [[text_hash(text) for text in texts] for texts in ("A", "BC", "E", "H")]
    assert (past.tokens.prompt, past.tokens.reply) == (36, 16)


def test_rows_of_a_label_that_the_task_does_not_have_are_named(run: Run) -> None:
    run.commit(written(item(0, "opera"), good("A", "opera")))
    with pytest.raises(RunError, match=r"ledger: has rows of opera, .* --set run=NAME"):
        run.past()


def test_two_items_at_one_position_are_named(run: Run) -> None:
    other = make_item("other", 0, 3, ("sport",))
    run.commit(written(item(3), good("A")))
    run.commit(written(other, good("B")))
    with pytest.raises(RunError, match=rf"{item(3).id} and {other.id}, both at position 3 "):
        run.past()


def test_signatures_come_back_with_their_rows_when_they_are_asked_for(run: Run) -> None:
    made = [bytes([n] * WIDTH) for n in (1, 2, 3)]
    run.commit(
        written(item(4), Example({"text": "d"}, "art", signature=made[2]), Rejection("empty", "", "art")),
        written(item(1), Example({"text": "b"}, "art"), Example({"text": "c"}, "art", signature=made[1])),
    )
    run.commit(
        [failed_row(item(2), "raised", AUTHOR)],
        written(item(0), Example({"text": "a"}, "art", signature=made[0])),
    )
    for signed, told in (
        (True, [[made[0]], [None, made[1]], [], [made[2]]]),
        (False, [[None], [None] * 2, [], [None]]),
    ):
        settled = run.past(signed=signed).settled
        assert [[row.signature for row in known.rows] for known in settled.walk(0)] == told
        assert settled.nbytes < 500 + signed * 4 * WIDTH


@pytest.mark.parametrize("count", [1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
def test_many_items_are_walked_in_order_and_take_at_most_sixty_bytes_each(count: int) -> None:
    random, order = Random(0), list(range(count))
    random.shuffle(order)
    ids = np.arange(2 * count, dtype=np.uint64).reshape(-1, 2)
    columns = LedgerRows(
        ids[order],
        np.array(order, np.int64),
        np.array([n % 3 for n in order], np.int32),
        np.array([n % 5 > 0 for n in order], np.bool_),
        np.array(order, np.int64) * 7,
        packed(None, count),
    )
    settled = Settled({0: columns}, [(label,) for label in LABELS])
    assert [known for known in settled.walk(0)] == [
        Known(n, n, (LABELS[n % 3],), [Candidate((LABELS[n % 3],), 7 * n, alone=True)] if n % 5 else [])
        for n in range(count)
    ]
    assert [settled.id_of(0, known) for known in settled.walk(0)] == [row.tobytes().hex() for row in ids]
    assert settled.nbytes <= 60 * count
