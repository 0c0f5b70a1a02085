"""Where a store may be, and what is said of a place that will not do."""

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.storage import LocalStore, open_store, place

ROOT = Path(__file__).parents[3]


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


def test_a_store_of_an_unknown_kind_is_refused_rather_than_made_a_folder() -> None:
    for use in (place, open_store):
        with pytest.raises(StorageError, match="store: gs://bucket/runs: is of an unknown kind"):
            use("gs://bucket/runs")


def test_the_name_of_a_place_does_not_touch_it(tmp_path: Path) -> None:
    assert place("runs", tmp_path / "base").url == f"{tmp_path}/base/runs"
    assert place(f"file://{tmp_path}/runs").url == f"{tmp_path}/runs"
    assert place("s3://bucket/a//runs/").url == "s3://bucket/a/runs"
    assert place("s3://bucket").url == "s3://bucket"
    assert list(tmp_path.iterdir()) == []


def test_storage_does_without_the_client_of_object_stores() -> None:
    code = "import sys, cluster.session; print('boto3' in sys.modules, 'botocore' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_store_may_lie_beside_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    open_store("../runs").write("x", b"y")
    assert (tmp_path / "runs" / "x").read_bytes() == b"y"


@pytest.mark.parametrize(("url", "where"), [("runs", "base/runs"), ("../up", "up"), ("{0}/own", "own")])
def test_a_relative_store_starts_at_its_base_and_an_absolute_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, where: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert open_store(url.format(tmp_path), tmp_path / "base").url == str(tmp_path / where)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_store_in_the_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/runs", tmp_path / "base").url == f"{tmp_path}/runs"
