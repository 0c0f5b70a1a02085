"""Curation: the same rows give the same bytes, whatever the parts they came in."""

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
from cluster.lease import acquire
from cluster.ledger import Ledger
from cluster.storage import LocalStore
from synth import curate as curation
from synth import records
from synth.curate import Dataset, curate
from synth.records import Author, Example, Rejection, make_item, settled_rows

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
    store, schema = LocalStore(folder), records.ledger_schema(("text",))
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


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), parts=st.integers(1, 7), merged=st.booleans())
def test_the_same_items_give_the_same_bytes_in_any_order_and_parts_merged_or_not(
    tmp_path_factory: pytest.TempPathFactory, seed: int, parts: int, merged: bool
) -> None:
    random, items = Random(seed), list(NIGHT)
    random.shuffle(items)
    plain = store_of(tmp_path_factory.mktemp("plain"), [NIGHT])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "COMPACT_PARTS", 2 if merged else 64)
        shuffled = store_of(tmp_path_factory.mktemp("shuffled"), [items[n::parts] for n in range(parts)])
    assert curate(shuffled, ("text",), TARGETS) == curate(plain, ("text",), TARGETS)
    assert data(shuffled) == data(plain)


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
    store = store_of(tmp_path, [[settle(0, "a", None), [records.failed_row(item, "killed", AUTHOR)]]])
    made = curate(store, ("text",), TARGETS)
    assert (made.rows, made.per_label, made.surplus, made.mean_words) == (0, {"a": 0, "b": 0}, {}, 0.0)
    assert (table(store).num_rows, table(store).column_names) == (0, ["text", "label", "id"])


def test_an_empty_dataset_of_two_fields_is_written_too(tmp_path: Path) -> None:
    assert curate(store_of(tmp_path, []), ("text", "title"), TARGETS).rows == 0
