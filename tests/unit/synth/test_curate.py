"""Curation: the same rows give the same bytes, whatever the parts they came in."""

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import ledger
from cluster.errors import StorageError
from cluster.lease import acquire
from cluster.ledger import Ledger
from cluster.storage import LocalStore
from synth import curate as curation
from synth import records, shelf
from synth.curate import Dataset, curate
from synth.filters.minhash import signature
from synth.filters.reading import Reading
from synth.records import Author, Example, Rejection, make_item
from synth.rows import failed_row, ledger_schema, settled_rows

AUTHOR = Author("fewgen", "scripted", "abc")
Settled = list[dict[str, Any]]


def settle(position: int, label: str, *texts: str | None) -> Settled:
    # Ten positions make a round: 10 is the first of round 1, and comes after all of round 0.
    item = make_item("key", position // 10, position % 10, (label,), draw=position, seed_id=f"s{position}",
        documents=(records.Grounding("doc", "A river.", 0.25),), attributes={"topic": "rain"})  # fmt: skip
    outcomes: list[Example | Rejection] = [
        Rejection("empty", "", label) if text is None else Example({"text": text}, label) for text in texts
    ]
    return settled_rows(item, outcomes, [], AUTHOR, "text")


def store_of(folder: Path, parts: Sequence[Sequence[Settled]]) -> LocalStore:
    """A run folder whose ledger holds the items in these parts."""
    store, schema = LocalStore(folder), ledger_schema(("text",))
    book = Ledger(store, acquire(store), schema)
    for items in parts:
        book.commit([pa.RecordBatch.from_pylist(rows, schema=schema) for rows in items])
        book.compact()
    return store


def data(store: LocalStore) -> dict[str, bytes]:
    return {key: store.read(key) for key in store.list("data")}


def table(store: LocalStore) -> pa.Table:
    return pa.concat_tables([pq.read_table(store.fetch(key)) for key in store.list("data")])


NIGHT = [
    settle(0, "a", "First of a.", "Second of a."),
    settle(1, "b", None),
    settle(2, "b", "first  OF a.", "First of b."),
    settle(3, "a", "Third of a."),
    settle(4, "b", "Second of b.", None),
    settle(5, "a", "Fourth of a."),
    settle(10, "b", "Third of b."),
]
TARGETS = {"a": 3, "b": 2}


def test_near_rows_are_surplus_and_the_first_in_plan_order_stays_whatever_the_parts(tmp_path: Path) -> None:
    texts = {
        0: "The keeper saved two penalties and sent the visitors home without a point.",
        1: "A probe has found traces of water in rocks from the far side of the moon.",
        2: "The keeper saved two penalties and sent the visitors home without a goal.",
        3: "The keeper saved two penalties, and sent the visitors home without a point!",
        4: "Voters went to the polls on Sunday to elect a new parliament.",
    }
    items = []
    for position, text in texts.items():
        item = make_item("key", 0, position, ("a",), draw=position)
        example = Example({"text": text}, "a", signature=signature([Reading(text)]))
        items.append(settled_rows(item, [example], [], AUTHOR, "text"))
    stores = [
        store_of(tmp_path / str(n), parts) for n, parts in enumerate([[items], [[i] for i in items[::-1]]])
    ]
    for store in stores:
        made = curate(store, ("text",), {"a": 9}, 0.7)
        assert (made.per_label, made.surplus) == ({"a": 3}, {"near_duplicate": 2})
        assert table(store)["text"].to_pylist() == [texts[0], texts[1], texts[4]]
        assert "signature" not in table(store).column_names
        assert curate(store, ("text",), {"a": 9}, 0.95).rows == 4
        assert curate(store, ("text",), {"a": 9}).surplus == {}
    assert data(stores[0]) == data(stores[1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 7), merged=st.booleans(), spilled=st.booleans())
def test_the_same_items_give_the_same_bytes_in_any_order_and_parts_merged_or_not(
    tmp_path_factory: pytest.TempPathFactory, seed: int, parts: int, merged: bool, spilled: bool
) -> None:
    random, items = Random(seed), list(NIGHT)
    random.shuffle(items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(curation, "SHARD_ROWS", 3)
        patch.setattr(curation, "GROUP_ROWS", 2)
        plain = store_of(tmp_path_factory.mktemp("plain"), [NIGHT])
        made = curate(plain, ("text",), TARGETS)
        patch.setattr(ledger, "COMPACT_PARTS", 2 if merged else 64)
        patch.setattr(shelf, "WAITING_BYTES", 0 if spilled else 10**6)
        shuffled = store_of(tmp_path_factory.mktemp("shuffled"), [items[n::parts] for n in range(parts)])
        assert curate(shuffled, ("text",), TARGETS) == made
    assert data(shuffled) == data(plain)
    assert list(data(plain)) == ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"]


def test_rows_stand_in_plan_order_without_duplicates_up_to_each_target(tmp_path: Path) -> None:
    store = store_of(tmp_path, [NIGHT])
    made = curate(store, ("text",), TARGETS)
    rows = table(store)
    assert rows["text"].to_pylist() == [
        "First of a.", "Second of a.", "First of b.", "Third of a.", "Second of b."]  # fmt: skip
    assert made == Dataset(5, {"a": 3, "b": 2}, {"duplicate": 1, "over_target": 2}, 3.0, made.digest)
    assert rows["label"].to_pylist() == [0, 0, 1, 0, 1]
    assert rows["id"].to_pylist()[:2] == [f"{NIGHT[0][0]['item_id']}-{piece}" for piece in (0, 1)]


def test_provenance_is_kept_as_plain_columns_and_labels_show_by_name(tmp_path: Path) -> None:
    store = store_of(tmp_path, [NIGHT])
    curate(store, ("text",), TARGETS)
    rows = table(store)
    first = rows.to_pylist()[0]
    assert json.loads(first["attributes"]) == {"topic": "rain"}
    assert (first["seed_id"], first["document_ids"], first["document_scores"]) == ("s0", ["doc"], [0.25])
    assert not {"item_id", "status", "reason", "labels", "text_hash", "position"} & set(rows.column_names)
    features = json.loads(rows.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["a", "b"], "_type": "ClassLabel"}
    assert features["document_scores"] == {"feature": {"dtype": "float32", "_type": "Value"}, "_type": "List"}
    assert list(features) == rows.column_names


def test_a_row_of_two_labels_makes_the_label_a_list_of_named_classes(tmp_path: Path) -> None:
    item = make_item("key", 0, 0, ("a", "b"))
    both = settled_rows(item, [Example({"text": "Both."}, ("b", "a"))], [], AUTHOR, "text")
    store = store_of(tmp_path, [[both, settle(1, "a", "One.")]])
    curate(store, ("text",), TARGETS)
    assert table(store)["label"].to_pylist() == [[1, 0], [0]]
    feature = json.loads(table(store).schema.metadata[b"huggingface"])["info"]["features"]["label"]
    assert feature == {"feature": {"names": ["a", "b"], "_type": "ClassLabel"}, "_type": "List"}


def test_of_an_item_in_two_parts_the_first_counts_even_where_it_failed(tmp_path: Path) -> None:
    failed = failed_row(make_item("key", 0, 1, ("b",), draw=1, seed_id="s1"), "killed", AUTHOR)
    failed["item_id"] = settle(1, "b", "X.")[0]["item_id"]
    parts = [[settle(0, "a", "Kept."), [failed]], [settle(1, "b", "X."), settle(0, "a", "Again.", "More.")]]
    store = store_of(tmp_path, [*parts, [settle(2, "b", "Y.")]])
    assert curate(store, ("text",), TARGETS).per_label == {"a": 1, "b": 1}
    assert table(store)["text"].to_pylist() == ["Kept.", "Y."]


def test_targets_differ_and_a_label_with_none_stays_out(tmp_path: Path) -> None:
    made = curate(store_of(tmp_path, [NIGHT]), ("text",), {"a": 1, "b": 0})
    assert (made.rows, made.per_label, made.surplus) == (1, {"a": 1, "b": 0}, {"over_target": 7})
    assert curate(store_of(tmp_path / "none", [NIGHT]), ("text",), {"a": 0, "b": 0}).rows == 0


def test_files_of_an_earlier_dataset_are_gone_and_shards_hold_all_rows_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, [NIGHT])
    whole = curate(store, ("text",), TARGETS)
    texts = table(store)["text"].to_pylist()
    monkeypatch.setattr(curation, "SHARD_ROWS", 2)
    assert curate(store, ("text",), TARGETS) == whole
    assert store.list("data") == [f"data/train-0000{n}-of-00003.parquet" for n in range(3)]
    assert table(store)["text"].to_pylist() == texts
    monkeypatch.undo()
    curate(store, ("text",), TARGETS)
    assert store.list("data") == ["data/train-00000-of-00001.parquet"]


def test_the_digest_follows_texts_ids_and_order(tmp_path: Path) -> None:
    digests = {
        curate(store_of(tmp_path / str(n), [items]), ("text",), TARGETS).digest
        for n, items in enumerate((NIGHT, NIGHT[1:], [settle(0, "b", "X.")], [settle(1, "b", "X.")], []))
    }
    assert len(digests) == 5


def test_a_night_without_an_accepted_row_leaves_an_empty_dataset(tmp_path: Path) -> None:
    item: records.Item = make_item("key", 0, 1, ("b",))
    store = store_of(tmp_path, [[settle(0, "a", None), [failed_row(item, "killed", AUTHOR)]]])
    made = curate(store, ("text",), TARGETS)
    assert (made.rows, made.per_label, made.surplus, made.mean_words) == (0, {"a": 0, "b": 0}, {}, 0.0)
    none = table(store).schema
    curate(store_of(tmp_path / "full", [NIGHT]), ("text",), TARGETS)
    assert none.equals(table(LocalStore(tmp_path / "full")).schema, check_metadata=True)


def test_an_empty_dataset_of_two_fields_is_written_too(tmp_path: Path) -> None:
    assert curate(store_of(tmp_path, []), ("text", "title"), TARGETS).rows == 0


def test_a_full_disk_under_the_temporary_files_is_told_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = store_of(tmp_path, [NIGHT])
    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StorageError, match=r"is full .*TMPDIR"):
        curate(store, ("text",), TARGETS)
