import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cluster.errors import DataError
from retrieval.corpus import check_corpus, corpus_hash, read_documents
from retrieval.documents import DOCUMENT_SCHEMA, from_table, make_document, to_table
from retrieval.settings import CorpusSettings

ROWS: list[dict[str, Any]] = [
    {"title": "Moon", "text": "It has craters."},
    {"text": "No title here."},
    {"title": "Moon", "text": "It has craters."},
]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _settings(path: Path, **values: Any) -> CorpusSettings:
    return CorpusSettings(path=path, **values)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_every_format_gives_the_same_documents_without_duplicates(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"corpus.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        pack = {"jsonl": bytes, "jsonl.gz": gzip.compress, "jsonl.zst": zstandard.compress}[ending]
        path.write_bytes(pack(_lines(ROWS)))
    assert list(read_documents(_settings(path))) == [
        make_document("It has craters.", "Moon"),
        make_document("No title here."),
    ]


def test_a_folder_is_read_in_name_order_and_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_bytes(_lines([{"text": "second"}]))
    (tmp_path / "a.jsonl").write_bytes(_lines([{"text": "first"}]))
    (tmp_path / "README.md").write_text("not a corpus")
    assert [document.text for document in read_documents(_settings(tmp_path))] == ["first", "second"]


def test_text_columns_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(_lines([{"name": "Lamp", "description": "Bright.", "title": "x"}]))
    (document,) = read_documents(_settings(path, text=("name", "description"), title=None))
    assert (document.text, document.title) == ("Lamp\nBright.", None)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": "fine"}, {"body": "x"}], r"c\.jsonl:2: has no column 'text', it has body"),
        ([{"text": "fine"}, {"text": " "}], r"c\.jsonl:2: 'text' must be a text that is not empty"),
        ([{"text": 3}], r"c\.jsonl:1: 'text' must be a text"),
        ([{"text": "x" * 1_000_000}], r"c\.jsonl:1: the text has 1,000,000 characters, at most 100,000"),
        ([{"text": "x", "title": 4}], r"c\.jsonl:1: 'title' is not a text"),
        ([{"text": "\ud800"}], r"c\.jsonl:1: is not UTF-8 text"),
        ([], "holds no documents"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(_lines(rows))
    with pytest.raises(DataError, match=message):
        check_corpus(_settings(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.jsonl", b'{"text": "a"}\n{"text": \n', r"c\.jsonl:2: is not a JSON object"),
        ("c.jsonl", b'{"text": "\xff"}\n', "is not UTF-8 text"),
        ("c.jsonl.gz", gzip.compress(_lines(ROWS))[:-12], "cannot be read"),
        ("c.jsonl.zst", b"nothing of the kind", "cannot be read"),
        ("c.parquet", b"PAR1 but not really", "is not a readable Parquet file"),
        ("c.csv", b"text\na\n", "no file ends in .jsonl, "),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_corpus(_settings(tmp_path / name))


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder; check corpus\.path"):
        check_corpus(_settings(tmp_path / "nowhere.jsonl"))


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(_lines(ROWS))
    first = corpus_hash(_settings(path))
    assert corpus_hash(_settings(path)) == first
    path.write_bytes(_lines(ROWS[:1]))
    assert corpus_hash(_settings(path)) != first


def test_documents_survive_arrow() -> None:
    documents = [make_document("a", "t"), make_document("b")]
    table = to_table(documents)
    assert table.schema == DOCUMENT_SCHEMA
    assert from_table(table) == documents
    assert len(documents[0].id) == 16
    assert documents[0].id != make_document("a").id
