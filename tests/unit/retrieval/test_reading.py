"""Corpora become documents: every format alike, bad rows named or counted, parts in the store."""

import csv
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.documents import DOCUMENT_SCHEMA, Document, from_table, make_document, to_table
from retrieval.layout import Part
from retrieval.reading.files import corpus_files
from retrieval.reading.splits import cut_splits
from retrieval.reading.work import SplitResult, check_corpus, read_documents, read_split
from retrieval.settings import CorpusSettings
from retrieval.tables import read_table

ROWS: list[dict[str, Any]] = [
    {"title": "Moon", "text": 'It has "craters",\nand dust.'},
    {"title": None, "text": "No title here: Zürich, 日本."},
    {"title": "Moon", "text": 'It has "craters",\nand dust.'},
]
DOCUMENTS = [make_document(ROWS[0]["text"], "Moon", 6), make_document(ROWS[1]["text"], tokens=5)]
PACK = {"gz": gzip.compress, "zst": zstandard.compress}


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def corpus(path: Path, **values: Any) -> CorpusSettings:
    return CorpusSettings(path=str(path), **values)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows in the format that the name asks for."""
    if ".parquet" in path.name:
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if ".csv" in path.name:
        plain = path.with_name("plain")
        with plain.open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, ["title", "text"])
            writer.writeheader()
            writer.writerows(rows)
        content = plain.read_bytes()
        plain.unlink()
    else:
        content = lines(rows)
    path.write_bytes(PACK.get(path.suffix[1:], bytes)(content))
    return path


def build(
    store: Path, settings: CorpusSettings, rows: int = 4096, target: int = 1 << 20
) -> list[SplitResult]:
    """Read all splits into a store, as the tasks of a build do."""
    splits = cut_splits(corpus_files(settings), target)
    return [read_split(LocalStore(store), n, split, settings, None, rows) for n, split in enumerate(splits)]


def built(store: Path, results: list[SplitResult]) -> list[Document]:
    """Return what was read into a store, duplicates and all."""
    names = [part for result in results for part in result.parts]
    tables = [read_table(LocalStore(store), Part(*part).documents_key) for part in names]
    return [document for table in tables for document in from_table(table)]


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet", "csv", "csv.gz", "csv.zst"])
def test_every_format_gives_the_same_documents_without_duplicates(tmp_path: Path, ending: str) -> None:
    settings = corpus(write(tmp_path / f"corpus.{ending}", ROWS))
    check_corpus(settings)
    assert list(read_documents(settings)) == DOCUMENTS


def test_a_saved_dataset_is_read_in_its_own_order(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "set"), num_shards=3)
    for format in ("auto", "dataset"):
        assert list(read_documents(corpus(tmp_path / "set", format=format))) == DOCUMENTS


def test_a_dataset_with_splits_asks_for_one(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(DataError, match=r"with the splits train, test; add the name of one to corpus\.path"):
        check_corpus(corpus(tmp_path / "set"))
    assert list(read_documents(corpus(tmp_path / "set" / "train"))) == DOCUMENTS


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_dataset_is_named(tmp_path: Path, damage: str) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS * 500).save_to_disk(str(tmp_path / "set"))
    (data,) = (tmp_path / "set").glob("*.arrow")
    data.unlink() if damage == "gone" else data.write_bytes(data.read_bytes()[:-20_000])
    with pytest.raises(
        DataError, match="is not there; copy" if damage == "gone" else "not a readable Arrow file"
    ):
        check_corpus(corpus(tmp_path / "set"))


def test_a_thousand_small_text_files_are_a_document_each(tmp_path: Path) -> None:
    for number in range(1000):
        (tmp_path / f"{number:04d}.txt").write_text(f"\ufeffText {number}.\n", encoding="utf-8")
    settings = corpus(tmp_path, format="text", metadata=("file",))
    splits = cut_splits(corpus_files(settings))
    assert len(splits) == 1
    documents = list(read_documents(settings))
    assert [document.text for document in documents] == [f"Text {number}." for number in range(1000)]
    assert (documents[7].title, documents[7].metadata) == (None, {"file": "0007.txt"})


def test_text_columns_are_joined_and_those_without_a_value_left_out(tmp_path: Path) -> None:
    rows = [
        {"name": "Lamp", "description": "Bright.", "title": "x"},
        {"name": "Chair", "description": None},
        {"description": "Soft."},
    ]
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines(rows))
    documents = list(read_documents(corpus(path, text=("name", "description"), title=None)))
    assert [document.text for document in documents] == ["Lamp\nBright.", "Chair", "Soft."]
    assert documents[0].title is None


def test_html_is_stripped_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines([{"title": "<b>R&amp;D</b>", "text": "<p>One</p><p>two &lt;3</p>"}]))
    assert [d.titled_text for d in read_documents(corpus(path, html=True))] == ["R&D One\ntwo <3"]
    assert [d.title for d in read_documents(corpus(path))] == ["<b>R&amp;D</b>"]


def test_metadata_are_kept_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(
        lines([{"text": "a", "year": 1999, "free": True, "tags": ["x"], "of": "é"}, {"text": "b"}])
    )
    settings = corpus(path, metadata=("year", "free", "tags", "of"))
    first, second = built(tmp_path / "out", build(tmp_path / "out", settings))
    assert first.metadata == {"year": "1999", "free": "true", "tags": '["x"]', "of": "é"}
    assert second.metadata == {}
    with pytest.raises(
        DataError, match=r"no row of the first 2 has a value in column 'yaer'; set corpus\.meta"
    ):
        check_corpus(corpus(path, metadata=("yaer",)))


BAD_ROWS: list[tuple[dict[str, Any], str, str]] = [
    ({"body": "x"}, "missing_column", r"c\.jsonl:2: has no column 'text', it has body; set corpus\.text"),
    ({"text": " "}, "empty", r"c\.jsonl:2: 'text' must be a text that is not empty; remove the row"),
    ({"text": None}, "empty", r"c\.jsonl:2: 'text' must be a text that is not empty"),
    ({"text": 3}, "not_text", r"c\.jsonl:2: 'text' must be a text"),
    ({"text": "x" * 200_000}, "too_long", r"c\.jsonl:2: the text has 200,000 characters, at most 100,000"),
    ({"text": "x", "title": 4}, "not_text", r"c\.jsonl:2: 'title' is not a text; set corpus\.title"),
    ({"text": "\ud800"}, "encoding", r"c\.jsonl:2: is not UTF-8 text"),
]


@pytest.mark.parametrize(("row", "reason", "message"), BAD_ROWS)
def test_a_bad_row_stops_by_its_place_or_is_counted_and_kept(
    tmp_path: Path, row: dict[str, Any], reason: str, message: str
) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines([{"text": "one"}, row, {"text": "two"}]))
    with pytest.raises(DataError, match=message):
        check_corpus(corpus(path))
    with pytest.raises(DataError, match=message):
        build(tmp_path / "stopped", corpus(path))
    settings = corpus(path, bad_rows="refuse")
    check_corpus(settings)
    (result,) = build(tmp_path / "out", settings)
    assert (result.parts, result.refused) == ((("00000-00000", 2),), {reason: 1})
    assert len(result.examples) == 1
    (kept,) = read_table(LocalStore(tmp_path / "out"), "refused/part-00000.parquet").to_pylist()
    assert (kept["place"], kept["reason"]) == (f"{path}:2", reason)
    assert kept["row"].startswith('{"') and len(kept["row"]) <= 10_000
    assert [document.text for document in read_documents(settings)] == ["one", "two"]


def test_a_key_needs_a_name_and_no_two_rows_may_share_it(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_bytes(lines([{"text": "one", "id": 1}, {"text": "one", "id": 1}, {"text": "two", "id": "1"}]))
    with pytest.raises(
        DataError, match=r"c\.jsonl:3: an earlier row with another text has the same 'id', '1'"
    ):
        check_corpus(corpus(path, key="id"))
    settings = corpus(path, key="id", bad_rows="refuse")
    assert [document.text for document in read_documents(settings)] == ["one"]
    (result,) = build(tmp_path / "out", settings)
    table = read_table(LocalStore(tmp_path / "out"), Part(*result.parts[0]).documents_key)
    assert table["key"].to_pylist() == ["1", "1", "1"]
    for row, message in (
        ({}, r":1: has no column 'id', it has text; set corpus\.key"),
        ({"id": 1.5}, "whole"),
    ):
        path.write_bytes(lines([{"text": "a"} | row]))
        with pytest.raises(DataError, match=message):
            check_corpus(corpus(path, key="id"))


DAMAGED = [
    ("c.jsonl", b'{"text": "a"}\n{"text": \n', r"c\.jsonl:2: is not a JSON object", {"broken": 1}),
    ("c.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', "c.jsonl:2: is not UTF-8 text", {"encoding": 1}),
    ("c.jsonl.gz", gzip.compress(lines(ROWS * 2))[:-12], "cannot be read", {"broken_file": 1}),
    ("c.jsonl.zst", zstandard.compress(lines(ROWS * 2))[:-3], "cannot be read", {"broken_file": 1}),
    ("c.parquet", b"PAR1 but not really", "is not a readable Parquet file", {"broken_file": 1}),
    ("c.csv", b"text\na\n\xff\n", r"c\.csv:3: is not UTF-8 text", {"encoding": 1}),
    ("c.csv", b'text,n\n"a\nb",1\nb,1,2\n', r"c\.csv:4: has 3 fields where the header", {"broken": 1}),
    ("c.csv", b'text\na\n"never closed\nb\n', r"c\.csv:3: is not a row of CSV", {"broken": 1}),
    ("c.csv", b"t\xffxt\na\n", r"c\.csv: cannot be read .its header is not UTF-8", {"broken_file": 1}),
    ("c.txt", b"\xff", r"c\.txt: is not UTF-8 text", {"encoding": 1}),
]


@pytest.mark.parametrize(("name", "content", "message", "refused"), DAMAGED)
def test_damage_is_named_or_counted(
    tmp_path: Path, name: str, content: bytes, message: str, refused: dict[str, int]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        check_corpus(corpus(tmp_path / name))
    write(tmp_path / "d.jsonl", ROWS) if name != "c.txt" else (tmp_path / "d.txt").write_text("Fine.")
    settings = corpus(tmp_path, bad_rows="refuse")
    (result,) = build(tmp_path / "out", settings)
    assert result.refused == refused
    assert list(read_documents(settings))


def test_what_was_read_before_the_damage_counts(tmp_path: Path) -> None:
    rows = [{"text": f"Text {number} {number**7}"} for number in range(20_000)]
    for ending, cut in (("jsonl.gz", 1000), ("jsonl.zst", 1000)):
        path = write(tmp_path / f"c.{ending}", rows)
        path.write_bytes(path.read_bytes()[:-cut])
        settings = corpus(path, bad_rows="refuse")
        (result,) = build(tmp_path / ending, settings)
        assert result.refused == {"broken_file": 1} and "rows" in result.examples[0]
        read = built(tmp_path / ending, [result])
        assert [d.text for d in read] == [row["text"] for row in rows[: len(read)]] and len(read) > 10_000


def test_a_parquet_file_with_a_damaged_page_keeps_its_other_rows(tmp_path: Path) -> None:
    rows = [{"text": f"Text {number} {number**7}"} for number in range(4000)]
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start + 60 : start + 200] = b"\0" * 140
    path.write_bytes(data)
    (result,) = build(tmp_path / "out", corpus(path, bad_rows="refuse"))
    assert result.refused == {"broken_file": 1}
    assert "in row group 3" in result.examples[0]
    assert [d.text for d in built(tmp_path / "out", [result])] == [
        row["text"] for row in (*rows[:2000], *rows[3000:])
    ]


def test_parquet_strings_that_are_no_text_are_refused_singly(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"\xff\xfe", b"fine"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c\.parquet:2: is not UTF-8 text"):
        check_corpus(corpus(tmp_path / "c.parquet"))
    settings = corpus(tmp_path / "c.parquet", bad_rows="refuse")
    assert [document.text for document in read_documents(settings)] == ["good", "fine"]


def test_a_corpus_of_which_nothing_can_be_used_is_refused_in_either_mode(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", [])
    for mode in ("stop", "refuse"):
        with pytest.raises(DataError, match="holds no documents; give a file with rows"):
            check_corpus(corpus(path, bad_rows=mode))
    write(path, ROWS)
    with pytest.raises(
        DataError, match=r"in its first 3 rows that can be used: .*c\.jsonl:1: has no column 'b'"
    ):
        check_corpus(corpus(path, text=("b",), bad_rows="refuse"))


def test_a_file_that_may_not_be_read_is_an_error_in_either_mode(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", ROWS)
    splits = cut_splits(corpus_files(corpus(path)))
    path.unlink()
    with pytest.raises(DataError, match=r"c\.jsonl: cannot be read \(No such file"):
        read_split(LocalStore(tmp_path / "o"), 0, splits[0], corpus(path, bad_rows="refuse"), None, 10)
    assert not (tmp_path / "o" / "splits").exists()


def test_a_line_without_end_is_passed_over_without_being_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.reading.formats.jsonl._MOST_BYTES", 1000)
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + b"x" * 10_000 + b"\n" + b'{"text": "b"}\n')
    (result,) = build(tmp_path / "out", corpus(path, bad_rows="refuse"))
    assert (result.refused, result.examples[0].split(": ")[0]) == ({"too_long": 1}, f"{path}:2")
    assert [document.text for document in built(tmp_path / "out", [result])] == ["a", "b"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    with path.open("w") as file:
        for number in range(50_000):
            file.write(json.dumps({"text": f"Text {number} " + "with more words " * 10}) + "\n")
    build(tmp_path / "warm", corpus(write(tmp_path / "w.jsonl", ROWS)))
    tracemalloc.start()
    build(tmp_path / "out", corpus(path), rows=512, target=1 << 30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert path.stat().st_size > 8_000_000
    assert peak < 4_000_000


def test_parts_hold_what_was_read_and_doing_a_split_twice_changes_nothing(tmp_path: Path) -> None:
    settings = corpus(write(tmp_path / "c.jsonl", [{"text": f"Text {n}."} for n in range(25)]))
    first = build(tmp_path / "out", settings, rows=10)
    assert first == [SplitResult((("00000-00000", 10), ("00000-00001", 10), ("00000-00002", 5)), {}, ())]
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert build(tmp_path / "out", settings, rows=10) == first
    assert files == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert built(tmp_path / "out", first) == list(read_documents(settings))
    assert json.loads((tmp_path / "out/splits/00000.json").read_text())["parts"][2] == ["00000-00002", 5]


def test_documents_survive_arrow() -> None:
    documents = [make_document("a", "t", 2), make_document("b")]
    table = to_table(documents)
    assert table.schema == DOCUMENT_SCHEMA
    assert from_table(table) == documents
    assert len(documents[0].id) == 16
    assert documents[0].id != make_document("a").id
