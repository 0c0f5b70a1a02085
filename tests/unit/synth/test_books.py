"""The books of a run: counted from what lies on disk, and refused with the sum that is wrong."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster import ledger
from cluster.errors import BooksError
from cluster.lease import Lease, acquire
from cluster.ledger import Ledger
from cluster.storage import LocalStore
from synth.books import Books, Items, balance
from synth.curate import curate
from synth.records import Author, Call, Example, Rejection, Reply, Sampling, Usage, make_item
from synth.rows import Tokens, failed_row, ledger_schema, prepared_row, settled_rows

AUTHOR = Author("fewgen", "scripted", "abc")
SCHEMA = ledger_schema(("text",))
TARGETS = {"a": 2, "b": 2}


def settle(position: int, label: str, *texts: str | None) -> list[dict[str, Any]]:
    """Rows of the item at a position, of 10 prompt and 3 reply tokens; None is a rejection."""
    item = make_item("key", 0, position, (label,), draw=position)
    outcomes: list[Example | Rejection] = [
        Rejection("empty", "", label) if text is None else Example({"text": text}, label) for text in texts
    ]
    return settled_rows(item, outcomes, [Usage("h", Sampling(), 10, 3)], AUTHOR, "text")


def acquire_again(store: LocalStore) -> Lease:
    """Take the lease over from the driver that this very process was before."""
    store.write("lease/beat-000001.json", b'{"time": 0, "released": true}')
    return acquire(store)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A ledger of four items settled, one failed, and a prepared call."""
    rows = [
        *settle(0, "a", "One.", "one."),
        *settle(1, "a", "Two.", None),
        *settle(2, "a", "Three."),
        *settle(3, "b", "Four."),
        failed_row(make_item("key", 0, 4, ("b",), draw=4), "killed", AUTHOR),
        prepared_row(Call("c", "topics", Sampling()), Reply("x", "stop", 5, 1), AUTHOR),
    ]
    store = LocalStore(tmp_path)
    Ledger(store, acquire(store), SCHEMA).commit([pa.RecordBatch.from_pylist(rows, schema=SCHEMA)])
    return store


def test_books_that_balance_tell_items_rows_reasons_and_tokens(store: LocalStore) -> None:
    books = balance(store, curate(store, ("text",), TARGETS), drawn=7, unfinished=2)
    assert books == Books(
        items=Items(drawn=7, settled=4, failed=1, unfinished=2),
        returned=6,
        accepted=5,
        rejected={"empty": 1},
        surplus={"duplicate": 1, "over_target": 1},
        per_label={"a": {"accepted": 4, "rejected": 1}, "b": {"accepted": 1, "failed": 1}},
        rows=3,
        tokens=Tokens(45, 13),
    )
    rows = books.as_json()["rows"]
    assert rows["returned"] == rows["accepted"] + sum(rows["rejected"].values())
    assert books.as_json()["items"] == {"drawn": 7, "settled": 4, "failed": 1, "unfinished": 2}


@pytest.mark.parametrize(("drawn", "unfinished", "sum"), [(8, 2, 7), (5, 2, 7), (7, 1, 6)])
def test_an_item_that_is_nowhere_is_told_with_both_numbers(
    store: LocalStore, drawn: int, unfinished: int, sum: int
) -> None:
    with pytest.raises(BooksError) as caught:
        balance(store, curate(store, ("text",), TARGETS), drawn, unfinished)
    assert str(caught.value) == (
        f"the books do not balance; items: drawn = settled + failed + unfinished: {drawn} is not {sum}"
    )


def test_a_row_that_is_lost_from_the_data_files_breaks_two_sums_and_both_are_told(store: LocalStore) -> None:
    dataset = curate(store, ("text",), TARGETS)
    (key,) = store.list("data")
    sink = io.BytesIO()
    pq.write_table(pq.read_table(store.fetch(key)).slice(1), sink)
    store.write(key, sink.getvalue())
    with pytest.raises(BooksError) as caught:
        balance(store, dataset, drawn=5, unfinished=0)
    assert str(caught.value) == (
        "the books do not balance; rows: accepted = in the dataset + surplus: 5 is not 4; "
        "dataset: rows in the files = rows chosen: 2 is not 3"
    )


def test_a_stale_data_file_breaks_the_books(store: LocalStore) -> None:
    dataset = curate(store, ("text",), TARGETS)
    store.write("data/train-00000-of-00002.parquet", store.read(store.list("data")[0]))
    with pytest.raises(BooksError, match="rows in the files = rows chosen: 6 is not 3"):
        balance(store, dataset, drawn=5, unfinished=0)


def test_rows_committed_after_curation_break_the_books(store: LocalStore) -> None:
    dataset = curate(store, ("text",), TARGETS)
    late = Ledger(store, acquire_again(store), SCHEMA)
    late.commit([pa.RecordBatch.from_pylist(settle(5, "b", "Five."), schema=SCHEMA)])
    with pytest.raises(BooksError, match=r"accepted = in the dataset \+ surplus: 6 is not 5"):
        balance(store, dataset, drawn=6, unfinished=0)


def test_an_item_found_in_two_parts_is_counted_once(store: LocalStore) -> None:
    twice = Ledger(store, acquire_again(store), SCHEMA)
    twice.commit([pa.RecordBatch.from_pylist(settle(3, "b", "Four again.", None), schema=SCHEMA)])
    books = balance(store, curate(store, ("text",), TARGETS), drawn=5, unfinished=0)
    assert (books.items.settled, books.returned, books.rejected) == (4, 6, {"empty": 1})


def test_a_run_that_made_nothing_balances(tmp_path: Path) -> None:
    empty = LocalStore(tmp_path)
    books = balance(empty, curate(empty, ("text",), TARGETS), drawn=0, unfinished=0)
    assert (books.items, books.returned, books.rows) == (Items(0, 0, 0, 0), 0, 0)
    assert books.per_label == {"a": {}, "b": {}}


def test_a_row_of_two_labels_is_one_row_in_the_books_and_counts_for_both(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    item = make_item("key", 0, 0, ("a", "b"))
    both = settled_rows(item, [Example({"text": "Both."}, ("a", "b"))], [], AUTHOR, "text")
    Ledger(store, acquire(store), SCHEMA).commit([pa.RecordBatch.from_pylist(both, schema=SCHEMA)])
    books = balance(store, curate(store, ("text",), TARGETS), drawn=1, unfinished=0)
    assert (books.rows, books.per_label) == (1, {"a": {"accepted": 1}, "b": {"accepted": 1}})


@pytest.mark.parametrize("parts", [1, 3, 40])
def test_the_books_do_not_depend_on_the_parts(
    tmp_path: Path, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "COMPACT_PARTS", 8)
    items = [settle(n, "ab"[n % 2], f"Text {n}.", None if n % 3 else f"Other {n}.") for n in range(40)]
    store, lots = LocalStore(tmp_path), [items[n::parts] for n in range(parts)]
    book = Ledger(store, acquire(store), SCHEMA)
    for lot in lots:
        book.commit([pa.RecordBatch.from_pylist(rows, schema=SCHEMA) for rows in lot])
        book.compact()
    books = balance(store, curate(store, ("text",), {"a": 5, "b": 0}), drawn=42, unfinished=2)
    assert (books.items, books.returned, books.rejected) == (Items(42, 40, 0, 2), 80, {"empty": 26})
    assert books.per_label == {"a": {"accepted": 27, "rejected": 13}, "b": {"accepted": 27, "rejected": 13}}
    assert (books.rows, books.surplus, books.tokens.prompt) == (5, {"over_target": 49}, 400)
