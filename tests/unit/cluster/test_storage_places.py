"""Where a store may be, and what is said of a place that will not do."""

from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import LocalStore, open_store


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/passwd", "../store-2/x"])
def test_no_key_leads_out_of_the_store(tmp_path: Path, key: str) -> None:
    store = LocalStore(tmp_path / "store")
    for use in (store.read, store.fetch, store.delete, store.exists, lambda k: store.write(k, b"")):
        with pytest.raises(StorageError, match="leads out of the store"):
            use(key)


def test_what_is_absent_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for use in (store.read, store.fetch):
        with pytest.raises(StorageError, match=f"{tmp_path}/no/such.json: "):
            use("no/such.json")


def test_a_store_that_can_not_be_written_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be written .* with --set store=FOLDER") as error:
        open_store(f"{tmp_path}/file/runs")
    assert error.value.exit_code == 2
    blocked = LocalStore(tmp_path / "file")
    for use in (blocked.write, blocked.create, blocked.append):
        with pytest.raises(StorageError, match="cannot be written"):
            use("x", b"")


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_opening_a_store_leaves_nothing_in_it(tmp_path: Path, prefix: str) -> None:
    assert open_store(f"{prefix}{tmp_path}/runs").url == f"{tmp_path}/runs"
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_object_store_is_refused_rather_than_made_a_folder(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="store: s3://bucket/runs: only folders are supported"):
        open_store("s3://bucket/runs")


def test_a_store_may_lie_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_store("../runs").write("x", b"y")
    assert (tmp_path / "runs" / "x").read_bytes() == b"y"


@pytest.mark.parametrize(("url", "place"), [("runs", "base/runs"), ("../up", "up"), ("{0}/own", "own")])
def test_a_relative_store_starts_at_its_base_and_an_absolute_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, place: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_store(url.format(tmp_path), tmp_path / "base").url == str(tmp_path / place)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_in_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/runs", tmp_path / "base").url == f"{tmp_path}/runs"
