"""What every store does, whether it is a folder or a bucket."""

import csv
import gzip
import io
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from cluster.errors import StorageError
from cluster.storage import Store


def test_what_is_written_is_read_back_and_replaced_whole(store: Store) -> None:
    store.write("a/b.bin", b"long" * 100)
    store.write("a/b.bin", b"\x00\xff")
    assert store.read("a/b.bin") == b"\x00\xff"
    assert store.fetch("a/b.bin").read_bytes() == b"\x00\xff"
    assert store.fetch("a/b.bin").name == "b.bin"
    assert store.exists("a/b.bin") and store.exists("a") and not store.exists("b") and not store.exists("a/b")


def test_an_empty_object_is_an_object(store: Store) -> None:
    store.write("empty", b"")
    assert store.exists("empty") and store.read("empty") == b"" and store.list("") == ["empty"]
    assert store.fetch("empty").read_bytes() == b""
    with store.open("empty") as file:
        assert file.read() == b""


def test_create_puts_an_object_only_once_and_keeps_the_first(store: Store) -> None:
    assert store.create("lease/epoch-1", b"mine") is True
    assert store.create("lease/epoch-1", b"yours") is False
    assert store.read("lease/epoch-1") == b"mine"
    assert store.list("") == ["lease/epoch-1"]


def test_of_many_who_create_at_once_one_succeeds_and_its_bytes_stay(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        for race in range(10):
            claims = [bytes([number]) * 10_000 for number in range(8)]
            won = list(pool.map(store.create, [f"epoch-{race}"] * 8, claims))
            assert won.count(True) == 1
            assert store.read(f"epoch-{race}") == claims[won.index(True)]


def test_append_adds_to_the_end(store: Store) -> None:
    store.append("logs/events.jsonl", b"1\n")
    store.append("logs/events.jsonl", b"2\n")
    assert store.read("logs/events.jsonl") == b"1\n2\n"


def test_list_gives_the_keys_below_a_folder_in_name_order(store: Store) -> None:
    for key in ("data/b", "data/a/2", "data/a/10", "data2/x", "top", "data/Z", "data/é ü+%#?&=.txt"):
        store.write(key, b"")
    assert store.list("data") == ["data/Z", "data/a/10", "data/a/2", "data/b", "data/é ü+%#?&=.txt"]
    assert store.list("data/a/") == ["data/a/10", "data/a/2"]
    assert store.list("nothing") == store.list("dat") == store.list("top") == []
    assert store.list("") == sorted([*store.list("data"), "data2/x", "top"])


def test_what_is_hidden_is_there_and_not_listed(store: Store) -> None:
    for key in (".probe", "a/.b/c", "a/.half", "a/whole"):
        store.write(key, b"")
    assert store.list("") == store.list("a") == ["a/whole"]
    assert [entry.key for entry in store.entries("")] == ["a/whole"]
    assert store.exists("a/.b") and store.read(".probe") == b""
    store.delete("a")
    assert not store.exists("a/.b/c") and store.exists(".probe")


def test_entries_tell_sizes_and_versions_that_change_with_the_content(store: Store) -> None:
    store.write("corpus/one", b"1")
    store.write("corpus/sub/two", b"22")
    before = store.entries("corpus")
    assert [(entry.key, entry.size) for entry in before] == [("corpus/one", 1), ("corpus/sub/two", 2)]
    assert store.entries("corpus") == before == store.entries("")
    assert store.entries("corpus/sub/two") == before[1:]
    assert store.entries("corpus/none") == store.entries("corp") == []
    store.write("corpus/one", b"3")
    after = store.entries("corpus")
    assert after[0].version != before[0].version and after[1] == before[1]


def test_a_store_within_a_store_has_keys_of_its_own(store: Store) -> None:
    run = store.within("runs/one")
    run.write("data/part", b"x")
    assert store.read("runs/one/data/part") == b"x"
    assert run.list("data") == ["data/part"] == [entry.key for entry in run.entries("")]
    assert run.url == f"{store.url}/runs/one"
    assert run.within("").url == run.url


def test_a_store_travels_to_other_processes(store: Store) -> None:
    store.write("x", b"1")
    there: Store = pickle.loads(pickle.dumps(store))
    assert there.url == store.url and there.read("x") == b"1"
    assert b"a-secret" not in pickle.dumps(store) and "a-secret" not in repr(store)


def test_delete_removes_files_and_folders_and_minds_nothing_absent(store: Store) -> None:
    for key in ("a/b/c", "a/d", "ab", "e"):
        store.write(key, b"")
    store.delete("a")
    store.delete("never-there")
    assert store.list("") == ["ab", "e"]
    store.delete("e")
    assert store.list("") == ["ab"]


def test_upload_puts_files_and_whole_folders_in_place_of_what_was_there(store: Store, tmp_path: Path) -> None:
    for name, old in (("config.json", "{}"), ("gone.txt", "old"), ("gone/too", "old")):
        store.write(f"students/s/{name}", old.encode())
    store.write("students/s2/stays", b"")
    store.write("card/a", b"")
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "config.json").write_text("new")
    (model / "sub" / "vocab").write_text("v")
    store.upload("students/s", model)
    store.upload("card", model / "config.json")
    assert store.list("students") == ["students/s/config.json", "students/s/sub/vocab", "students/s2/stays"]
    assert (store.read("students/s/config.json"), store.read("card")) == (b"new", b"new")
    folder = store.fetch("students/s")
    assert folder.name == "s" and (folder / "sub" / "vocab").read_text() == "v"
    store.upload("card", model)
    assert store.list("card") == ["card/config.json", "card/sub/vocab"]


def test_a_large_file_goes_up_and_comes_back_as_it_was(store: Store, tmp_path: Path) -> None:
    content = os.urandom(2**20) * 19 + b"end"
    (tmp_path / "weights").write_bytes(content)
    store.upload("s/weights", tmp_path / "weights")
    assert store.fetch("s/weights").read_bytes() == content
    assert (store.fetch("s") / "weights").read_bytes() == content
    with store.open("s/weights") as file:
        assert file.read() == content
        assert file.seek(-3, os.SEEK_END) == len(content) - 3 and file.read() == b"end"
        file.seek(10 * 2**20)
        assert file.read() == content[10 * 2**20 :]
        file.seek(9 * 2**20)
        assert file.read(5) == content[9 * 2**20 :][:5] and file.tell() == 9 * 2**20 + 5


def test_formats_are_read_from_an_open_object(store: Store) -> None:
    text = "".join(f"{number},ä\n" for number in range(5000)).encode()
    table = pa.table({"id": list(range(100_000)), "text": [f"text {number}" for number in range(100_000)]})
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=10_000)
    store.write("a.gz", gzip.compress(text))
    store.write("a.zst", zstandard.compress(text))
    store.write("a.csv", text)
    store.write("a.parquet", sink.getvalue())
    with store.open("a.gz") as file, gzip.open(file) as plain:
        assert plain.read() == text
    with store.open("a.zst") as file, zstandard.ZstdDecompressor().stream_reader(file) as plain:
        assert plain.read() == text
    with store.open("a.csv") as file, io.TextIOWrapper(file, "utf-8", newline="") as lines:
        assert list(csv.reader(lines))[-1] == ["4999", "ä"]
    with store.open("a.parquet") as file, pq.ParquetFile(file) as parquet:
        assert parquet.num_row_groups == 10
        assert parquet.read_row_group(7, ["id"])["id"][0].as_py() == 70_000
        assert parquet.read() == table


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "../store-2/x"])
def test_no_key_leads_out_of_the_store(store: Store, key: str) -> None:
    for use in (store.read, store.open, store.fetch, store.delete, store.exists, store.list, store.within):
        with pytest.raises(StorageError, match="leads out of the store"):
            use(key)
    with pytest.raises(StorageError, match="leads out of the store"):
        store.write(key, b"")


def test_what_is_absent_is_named(store: Store) -> None:
    store.write("there", b"")
    for use in (store.read, store.open, store.fetch):
        with pytest.raises(StorageError, match=f"{store.url}/no/such.json: "):
            use("no/such.json")
