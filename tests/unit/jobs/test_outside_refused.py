"""Rows of another tool that cannot be used: stopped with file, row and remedy, or left out and counted."""

from pathlib import Path

import pytest

from cluster.errors import DataError
from tests.unit.jobs.outside_rows import PAIRS, ROWS, Row, jsonl, taken, told, without_ids

BAD: dict[str, tuple[Row, list[str]]] = {
    "unknown label": (
        {"text": "A treaty.", "label": "Wrold"},
        ["column 'label' holds 'Wrold'", "World, Sports", "dataset.label", "dataset.labels"],
    ),
    "label that is a number": ({"text": "A treaty.", "label": 7}, ["holds '7'", "dataset.labels says what"]),
    "several labels": ({"text": "A treaty.", "label": ["World"]}, ["""holds '["World"]'"""]),
    "null label": ({"text": "A treaty.", "label": None}, ["column 'label'"]),
    "empty text": ({"text": " \n", "label": "World"}, ["'text' must be a text that is not empty"]),
    "text that is none": ({"text": 5, "label": "World"}, ["'text' must be a text that is not empty"]),
    "missing column": ({"txet": "A treaty.", "label": "World"}, ["has no column 'text', it has txet, label"]),
    "too long": ({"text": "a " * 60_000, "label": "World"}, ["the text has 119,999 characters"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_row_that_cannot_be_used_stops_with_file_row_and_remedy(tmp_path: Path, case: str) -> None:
    row, words = BAD[case]
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], row])
    with pytest.raises(DataError) as error:
        taken(tmp_path, path)
    said = str(error.value)
    assert said.startswith(f"dataset: {path}:3: ")
    assert all(word in said for word in words), said
    assert not (tmp_path / "run/data").exists()


@pytest.mark.parametrize("case", BAD)
def test_such_a_row_is_left_out_and_counted_where_the_recipe_says_so(tmp_path: Path, case: str) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [ROWS[0], BAD[case][0], *ROWS[1:]])
    rows = taken(tmp_path, path, bad_rows="refuse", refused_share=0.25)
    assert without_ids(rows) == ROWS
    refused = told(tmp_path)["refused"]
    assert sum(refused.values()) == 1
    assert all(isinstance(reason, str) and reason for reason in refused)
    assert told(tmp_path)["rows"] == 3


def test_too_many_rows_left_out_stop_it_after_all(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [*ROWS, BAD["unknown label"][0], BAD["empty text"][0]])
    with pytest.raises(DataError, match=r"rows.jsonl: 2 rows cannot be used \(.*1 unknown_label.*\)"):
        taken(tmp_path, path, bad_rows="refuse", refused_share=0.39)
    assert len(taken(tmp_path, path, bad_rows="refuse", refused_share=0.4)) == 3


def test_the_second_field_may_not_be_missing_either(tmp_path: Path) -> None:
    row = {"premise": "It rains.", "hypothesis": " ", "label": "World"}
    path = jsonl(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError, match=r"rows.jsonl:1: column 'hypothesis' must be a text that is not"):
        taken(tmp_path, path, PAIRS)


def test_a_dataset_without_rows_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty.jsonl: holds no rows; check dataset.path"):
        taken(tmp_path, jsonl(tmp_path / "empty.jsonl", []))


def test_no_file_to_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^dataset: .*there is no such file or folder"):
        taken(tmp_path, tmp_path / "absent.jsonl")
    (tmp_path / "notes.pdf").write_bytes(b"")
    with pytest.raises(DataError, match=r"no file ends in .*\.parquet"):
        taken(tmp_path, tmp_path / "notes.pdf")


@pytest.mark.parametrize("case", ["missing column", "text that is none", "too long", "no file"])
def test_remedies_name_keys_that_the_recipe_has(tmp_path: Path, case: str) -> None:
    path = tmp_path / "rows.jsonl"
    if case != "no file":
        jsonl(path, [BAD[case][0]])
    with pytest.raises(DataError) as error:
        taken(tmp_path, path)
    assert "corpus" not in str(error.value)


def test_a_missing_column_of_labels_is_told_as_such(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"text": "A treaty.", "class": "World"}])
    with pytest.raises(DataError, match=r"rows.jsonl:1: has no column 'label'"):
        taken(tmp_path, path)


def test_a_dataset_of_refused_rows_alone_says_why_they_are(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [row | {"label": "?"} for row in ROWS])
    with pytest.raises(DataError, match="3 unknown_label"):
        taken(tmp_path, path, bad_rows="refuse")


@pytest.mark.parametrize(
    ("bad_rows", "why"),
    [("stop", "is not a readable Parquet file"), ("refuse", "1 rows cannot be used")],
)
def test_a_damaged_parquet_file_is_the_users_mistake(tmp_path: Path, bad_rows: str, why: str) -> None:
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 but nothing that follows is")
    with pytest.raises(DataError, match=rf"rows\.parquet: ({why})"):
        taken(tmp_path, tmp_path / "rows.parquet", bad_rows=bad_rows)


def test_a_damaged_file_among_others_may_be_left_out(tmp_path: Path) -> None:
    jsonl(tmp_path / "set/a.jsonl")
    (tmp_path / "set/b.parquet").write_bytes(b"PAR1 but nothing that follows is")
    assert without_ids(taken(tmp_path, tmp_path / "set", bad_rows="refuse", refused_share=0.25)) == ROWS
    assert sum(told(tmp_path)["refused"].values()) == 1
