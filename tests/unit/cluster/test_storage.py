import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import LocalStore


def test_what_is_written_is_read_back_and_replaced_whole(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "new" / "store")
    store.write("a/b.bin", b"long" * 100)
    store.write("a/b.bin", b"\x00\xff")
    assert store.read("a/b.bin") == b"\x00\xff"
    assert store.fetch("a/b.bin").read_bytes() == b"\x00\xff"
    assert store.exists("a/b.bin") and store.exists("a") and not store.exists("b")


def test_a_write_that_dies_leaves_the_old_object_and_lists_nothing_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    store.write("a/run.json", b"old")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    for step in ("os.fsync", "pathlib.Path.replace"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(step, die)
            store.write("a/run.json", b"new")
        assert store.read("a/run.json") == b"old"
    assert store.list("a") == ["a/run.json"]


def test_a_refused_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="taken: cannot be written"):
        store.write("taken", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_create_puts_an_object_only_once_and_keeps_the_first(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    assert store.create("lease/epoch-1", b"mine") is True
    assert store.create("lease/epoch-1", b"yours") is False
    assert store.read("lease/epoch-1") == b"mine"
    assert [path.name for path in (tmp_path / "lease").iterdir()] == ["epoch-1"]


def test_of_many_who_create_at_once_one_succeeds_and_its_bytes_stay(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        for race in range(20):
            claims = [bytes([number]) * 10_000 for number in range(8)]
            won = list(pool.map(store.create, [f"epoch-{race}"] * 8, claims))
            assert won.count(True) == 1
            assert store.read(f"epoch-{race}") == claims[won.index(True)]


def test_append_adds_to_the_end(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.append("logs/events.jsonl", b"1\n")
    store.append("logs/events.jsonl", b"2\n")
    assert store.read("logs/events.jsonl") == b"1\n2\n"


def test_list_gives_the_keys_below_a_folder_in_name_order(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("data/b", "data/a/2", "data/a/10", "data2/x", "top"):
        store.write(key, b"")
    assert store.list("data") == ["data/a/10", "data/a/2", "data/b"]
    assert store.list("nothing") == []
    assert store.list("") == ["data/a/10", "data/a/2", "data/b", "data2/x", "top"]


def test_a_store_within_a_store_has_keys_of_its_own(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    run = store.within("runs/one")
    run.write("data/part", b"x")
    assert store.read("runs/one/data/part") == b"x"
    assert run.list("data") == ["data/part"]
    assert run.url == f"{tmp_path}/runs/one"


def test_delete_removes_files_and_folders_and_minds_nothing_absent(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for key in ("a/b/c", "a/d", "e"):
        store.write(key, b"")
    store.delete("a")
    store.delete("never-there")
    assert store.list("") == ["e"]
    store.delete("e")
    assert store.list("") == []


def test_upload_puts_files_and_whole_folders_in_place_of_what_was_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for name, old in (("config.json", "{}"), ("gone.txt", "old")):
        store.write(f"students/s/{name}", old.encode())
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("new")
    (model / "sub" / "vocab").write_text("v")
    store.upload("students/s", model)
    store.upload("card", model / "config.json")
    assert store.list("students") == ["students/s/config.json", "students/s/sub/vocab"]
    assert (store.read("students/s/config.json"), store.read("card")) == (b"new", b"new")


def test_an_upload_that_dies_lists_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, copy = LocalStore(tmp_path / "store"), shutil.copytree
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")

    def die(source: Path, target: Path) -> None:
        copy(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copytree", die)
    with pytest.raises(KeyboardInterrupt):
        store.upload("students/s", tmp_path / "model")
    assert store.list("students") == []
