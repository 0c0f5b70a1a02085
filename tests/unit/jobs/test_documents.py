"""Documents of rows, from a run folder whose later rounds retrieved more of them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.storage import LocalStore
from jobs.documents import document_tables, read_documents
from jobs.evaluate import _grounding
from jobs.report.samples import sample_rows

TEXTS = {"d0": "Garlic soup in Lisbon", "d1": "A striker of Porto", "d2": "Votes in Madrid", "d3": "Opera"}


@pytest.fixture
def run(tmp_path: Path) -> LocalStore:
    """Two rows of round 0, one of round 1, and none of the documents of round 2."""
    for folder, ids in {"": ("d0", "d1"), "rounds/001": ("d2",), "rounds/002": ("d3",)}.items():
        sources = tmp_path / folder / "sources"
        sources.mkdir(parents=True)
        table = pa.table({"id": ids, "title": [""] * len(ids), "text": [TEXTS[id] for id in ids]})
        pq.write_table(table, sources / "documents.parquet")
    (tmp_path / "rounds/001/feedback").mkdir()
    (tmp_path / "rounds/001/feedback/errors.parquet").touch()
    texts = [TEXTS[f"d{number}"] for number in range(3)]
    ids = [f"{number}-0" for number in range(3)]
    columns = {"text": texts, "label": [0, 1, 1], "id": ids, "document_ids": [[f"d{n}"] for n in range(3)]}
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "data/train-00000-of-00001.parquet")
    return LocalStore(tmp_path)


def test_documents_of_all_rounds_are_found_in_their_order(run: LocalStore) -> None:
    tables = [f"{folder}sources/documents.parquet" for folder in ("", "rounds/001/", "rounds/002/")]
    assert document_tables(run) == tables
    found = read_documents(run, {"d0", "d2", "no such"})
    assert {id: row["text"] for id, row in found.items()} == {id: TEXTS[id] for id in ("d0", "d2")}
    assert read_documents(run, set()) == {}


def test_a_run_without_documents_has_none(tmp_path: Path) -> None:
    assert document_tables(LocalStore(tmp_path)) == []
    assert read_documents(LocalStore(tmp_path), {"d0"}) == {}


def test_rows_of_later_rounds_are_held_against_their_documents(run: LocalStore) -> None:
    stage: Any = SimpleNamespace(run=run, task=SimpleNamespace(labels=("food", "news")))
    found = cast("dict[str, Any]", _grounding(stage))
    assert found["own"] == 1 and found["rows"] >= 2


def test_rows_of_later_rounds_are_shown_beside_their_documents(run: LocalStore) -> None:
    shown = {row.id: [source.text for source in row.sources] for row in sample_rows(run, 3)}
    assert shown == {f"{number}-0": [TEXTS[f"d{number}"]] for number in range(3)}
