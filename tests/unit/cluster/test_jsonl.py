import gzip
import json
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import DataError
from cluster.jsonl import read_jsonl

ROWS = [{"text": "one"}, {"text": "zwölf\u2028日本 😀", "n": [1, None]}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def packed(path: Path, data: bytes) -> Path:
    """Write data as the ending of the path asks."""
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_rows_come_with_their_line_numbers_whatever_the_packing(tmp_path: Path, name: str) -> None:
    assert list(read_jsonl(packed(tmp_path / name, LINES))) == [(1, ROWS[0]), (2, ROWS[1])]


def test_several_packed_pieces_in_one_file_are_all_read(tmp_path: Path) -> None:
    for name, pack in (("a.gz", gzip.compress), ("a.zst", zstandard.compress)):
        (tmp_path / name).write_bytes(pack(LINES) + pack(LINES))
        assert [row for _, row in read_jsonl(tmp_path / name)] == ROWS * 2


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl", b'\n{"a": 1}\r\n  \n{"a": 2}')
    assert list(read_jsonl(path)) == [(2, {"a": 1}), (4, {"a": 2})]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert list(read_jsonl(packed(tmp_path / "a.jsonl", b""))) == []


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "cut', "is not a JSON object (Invalid control character"),
        (b"text", "is not a JSON object (Expecting value)"),
        (b"[1, 2]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b'{"a": 1} {"a": 2}', "is not a JSON object (Extra data)"),
        (b'{"a": "\x00"}', "is not a JSON object (Invalid control character"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line_after_the_good_ones(
    tmp_path: Path, name: str, line: bytes, reason: str
) -> None:
    path = packed(tmp_path / name, LINES + b"\n" + line + b"\n" + LINES)
    rows = read_jsonl(path)
    assert [next(rows)[1], next(rows)[1]] == ROWS
    with pytest.raises(DataError) as error:
        next(rows)
    assert str(error.value).startswith(f"{path}:4: {reason}")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
def test_a_text_of_megabytes_is_read_whole(tmp_path: Path, name: str) -> None:
    text = "Wörter und 日本 " * 200_000
    path = packed(tmp_path / name, json.dumps({"text": text}, ensure_ascii=False).encode() + b"\n" + LINES)
    rows = list(read_jsonl(path))
    assert rows[0] == (1, {"text": text}) and len(rows) == 3


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.jsonl.gz", "cut"),
        ("a.jsonl.gz", "not packed"),
        ("a.jsonl.gz", "flipped"),
        ("a.jsonl.zst", "cut"),
        ("a.jsonl.zst", "not packed"),
        ("a.jsonl.zst", "flipped"),
    ],
)
def test_a_damaged_archive_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = packed(tmp_path / name, b"".join(b'{"n": %d}\n' % n for n in range(5000)))
    data = path.read_bytes()
    changed = {"cut": data[:-200], "not packed": LINES, "flipped": data[:90] + b"\xff" * 40 + data[130:]}
    path.write_bytes(changed[damage])
    with pytest.raises(DataError) as error:
        list(read_jsonl(path))
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    latin = packed(tmp_path / "latin.jsonl", '{"text": "Zürich"}'.encode("latin-1"))
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "directory"), (latin, "not UTF-8")):
        with pytest.raises(DataError, match=reason) as error:
            list(read_jsonl(path))
        assert str(path) in str(error.value)


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl", LINES + b'{"text": "Z\xfcrich"}\n')
    with pytest.raises(DataError) as error:
        list(read_jsonl(path))
    assert f"{path}:3: " in str(error.value)


def test_a_number_of_thousands_of_digits_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl", b'{"n": ' + b"1" * 5000 + b"}\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        list(read_jsonl(path))


def test_a_row_nested_without_end_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl", b'{"n": ' + b"[" * 100_000 + b"\n")
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        list(read_jsonl(path))


def test_half_a_character_is_named(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.jsonl", b'{"text": "cut emoji \\ud83d"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:1: "):
        list(read_jsonl(path))


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), max_size=4))
def test_whatever_json_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    assert [row for _, row in read_jsonl(path)] == rows
