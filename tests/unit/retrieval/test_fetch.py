from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError, StorageError
from cluster.storage import LocalStore
from retrieval.documents import Document, from_table, make_document, to_table
from retrieval.fetch import document_by_id, take_documents
from retrieval.ids import find_rows, numbers_of, read_ids, write_ids
from retrieval.layout import Part
from retrieval.manifest import Index, Manifest
from retrieval.tables import write_table

SIZES = (1_300, 20, 1)


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return [make_document(f"text {n}", f"title {n}", n, {"year": str(n)}) for n in range(sum(SIZES))]


@pytest.fixture
def index(tmp_path: Path, documents: list[Document]) -> Index:
    store, parts, first = LocalStore(tmp_path), [], 0
    for number, rows in enumerate(SIZES):
        parts.append(Part(f"{number:05d}-00000", rows))
        write_table(store, parts[-1].documents_key, to_table(documents[first : first + rows], ["year"]))
        first += rows
    write_ids(store, 1, numbers_of([document.id for document in documents]))
    cut = tuple((part.name, part.rows) for part in parts)
    manifest = Manifest(
        "f", "small", "", "", {}, 1, cut, (2, 1), 0, {}, (), ("year",), {}, None, "", versions={}
    )
    return Index(store, "indexes/small", manifest)


def test_documents_of_rows_come_in_row_order(index: Index, documents: list[Document]) -> None:
    rows = [0, 1, 511, 512, 513, 1_023, 1_024, 1_299, 1_300, 1_319, 1_320]
    taken = from_table(take_documents(index.store, index.layout, np.array(rows)))
    assert taken == [documents[row] for row in rows]


def test_only_the_row_groups_that_are_needed_are_read(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def spied(file: pq.ParquetFile, group: int, columns: list[str]) -> object:
        read.append(group)
        return original(file, group, columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", spied)
    take_documents(index.store, index.layout, np.array([513, 600, 1_299, 1_305]))
    assert read == [1, 2, 0]


def test_ids_lead_to_rows_and_back(index: Index, documents: list[Document]) -> None:
    wanted = [1_320, 7, 7, 0]
    assert find_rows(index, [documents[row].id for row in wanted]).tolist() == wanted
    assert find_rows(index, []).tolist() == []
    assert read_ids(index.store, 1).tolist() == numbers_of([each.id for each in documents]).tolist()
    assert document_by_id(index, documents[1_310].id) == documents[1_310]


@pytest.mark.parametrize("id", ["0123456789abcdef", "f" * 16, "0" * 16, "zzz", "", "f" * 20, "1_2", " 12 "])
def test_an_id_that_is_not_there_is_named(index: Index, documents: list[Document], id: str) -> None:
    with pytest.raises(DataError, match=f"index small: has no document {id}; a search shows ids"):
        find_rows(index, [documents[0].id, id])


def test_a_damaged_part_is_named(index: Index) -> None:
    key = index.layout.parts[1].documents_key
    whole = index.store.read(key)
    index.store.write(key, whole[: len(whole) // 2])
    with pytest.raises(StorageError, match=rf"{key}: is damaged"):
        take_documents(index.store, index.layout, np.array([1_301]))


def test_a_damaged_table_of_ids_is_named(index: Index, documents: list[Document]) -> None:
    index.store.write("ids-000001.npy", index.store.read("ids-000001.npy")[:200])
    with pytest.raises(StorageError, match=r"ids-000001\.npy: is damaged"):
        find_rows(index, [documents[0].id])
