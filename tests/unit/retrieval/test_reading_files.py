"""Which files make a corpus, in which order, and what tells their content apart."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError
from retrieval.reading.files import corpus_files
from retrieval.reading.work import check_corpus, read_documents
from retrieval.settings import CorpusSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hashes.json"


def corpus(path: Path | str, **values: Any) -> CorpusSettings:
    return CorpusSettings(path=str(path), **values)


def row(text: str) -> str:
    return json.dumps({"text": text}) + "\n"


def test_a_folder_is_read_in_name_order_and_other_files_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "c.jsonl").write_text(row("third"))
    (folder / "b.jsonl").write_text(row("second"))
    (folder / "a.jsonl").write_text(row("first"))
    (folder / ".a.jsonl.part").write_text(row("hidden"))
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.jsonl").write_text(row("hidden"))
    (folder / "README.md").write_text("not a corpus")
    (folder / "LICENSE.txt").write_text("not a corpus")
    assert [d.text for d in read_documents(corpus(folder))] == ["first", "second", "third"]
    assert [file.format for file in corpus_files(corpus(folder, format="text"))] == ["text"]


def test_paths_are_absolute_whatever_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl").write_text(row("a"))
    monkeypatch.chdir(tmp_path)
    for path in ("a.jsonl", ".", "./x/../a.jsonl", f"file://{tmp_path}"):
        assert [file.url for file in corpus_files(corpus(path))] == [str(tmp_path / "a.jsonl")]


def test_a_file_with_another_ending_can_be_named_with_its_format(tmp_path: Path) -> None:
    (tmp_path / "rows.data").write_text(row("a"))
    with pytest.raises(DataError, match=r"no file ends in .*\.jsonl.*; found rows\.data; convert it"):
        check_corpus(corpus(tmp_path / "rows.data"))
    assert [d.text for d in read_documents(corpus(tmp_path / "rows.data", format="jsonl"))] == ["a"]
    (tmp_path / "other.data").write_text(row("b"))
    with pytest.raises(DataError, match=r"no file ends in \.jsonl, \.jsonl\.gz, \.jsonl\.zst; found"):
        check_corpus(corpus(tmp_path, format="jsonl"))


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file or folder; check corpus\.path"):
        check_corpus(corpus(tmp_path / "nowhere.jsonl"))
    with pytest.raises(DataError, match=r"holds no state\.json; give the folder that save_to_disk wrote"):
        check_corpus(corpus(tmp_path, format="dataset"))
    with pytest.raises(DataError, match="no file ends in"):
        check_corpus(corpus(tmp_path))


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(row("a"))
    (first,) = corpus_files(corpus(path))
    assert corpus_files(corpus(path)) == [first]
    path.write_text(row("b"))
    (second,) = corpus_files(corpus(path))
    assert (second.size, second.url) == (first.size, first.url)
    assert second.hash != first.hash


def test_hashes_of_large_files_are_remembered_until_they_change(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(row("a" * 2_000_000))
    status = path.stat()
    (first,) = corpus_files(corpus(path))
    assert list(json.loads(cache.read_text()).values()) == [first.hash]
    path.write_text(row("b" * 2_000_000))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert corpus_files(corpus(path)) == [first]
    os.utime(path)
    (changed,) = corpus_files(corpus(path))
    assert changed.hash != first.hash
    assert len(json.loads(cache.read_text())) == 2


@pytest.mark.parametrize("content", ["", "[1]", '{"a'])
def test_a_damaged_memory_of_hashes_is_no_obstacle(tmp_path: Path, cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    (tmp_path / "c.jsonl").write_text(row("a" * 2_000_000))
    assert len(corpus_files(corpus(tmp_path / "c.jsonl"))[0].hash) == 32
    assert len(json.loads(cache.read_text())) == 1
