"""Rows as the input of a run: JSONL files, and datasets that a run left."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError
from synth.columns import dataset_table
from synth.earlier_rows import read_rows, rows_digest
from synth.rows import ledger_schema
from synth.task import Gold
from tests.unit.synth.method_desk import headlines

TASK = headlines(0).settings
TEXTS = ["A cup is won", "Shares fall", "Another cup"]
LABELS = ["sport", "trade", "sport"]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="earlier")
    yield "s3://earlier"
    server.stop()


def dataset(run: Path, names: Sequence[str] = ("trade", "sport"), single: bool = True) -> Path:
    """Write a dataset of two shards as a run does, and a part of its ledger."""
    made = [{"row_id": f"id{n}", "labels": [label], "text": text} for n, (text, label) in enumerate(
        zip(TEXTS, LABELS, strict=True))]  # fmt: skip
    table = dataset_table(pa.Table.from_pylist(made, ledger_schema(("text",))), ("text",), names, single)
    (run / "data").mkdir(parents=True)
    (run / "ledger").mkdir()
    for number, rows in enumerate((table.slice(0, 2), table.slice(2))):
        pq.write_table(rows, run / f"data/train-{number:05d}-of-00002.parquet")
    pq.write_table(table, run / "ledger/part-0.parquet")
    return run


@pytest.mark.parametrize("inner", ["", "data"])
def test_a_run_gives_its_dataset_with_the_ids_and_the_names_of_the_labels(inner: str, tmp_path: Path) -> None:
    # The labels stand in another order in the task of the earlier run.
    folder = str(dataset(tmp_path / "run") / inner)
    wanted = [Gold(f"id{n}", {"text": text}, label) for n, (text, label) in enumerate(
        zip(TEXTS, LABELS, strict=True))]  # fmt: skip
    assert read_rows(folder, TASK) == wanted
    assert read_rows(f"file://{folder}", TASK) == wanted
    assert rows_digest(folder) == rows_digest(str(dataset(tmp_path / "copy")))


def test_a_run_in_an_object_store_is_read_as_one_in_a_folder(bucket: str, tmp_path: Path) -> None:
    boto3 = pytest.importorskip("boto3")
    run = dataset(tmp_path / "run")
    for path in run.rglob("*.parquet"):
        boto3.client("s3").upload_file(str(path), "earlier", f"night/run/{path.relative_to(run)}")
    boto3.client("s3").put_object(Bucket="earlier", Key="rows.jsonl", Body=b"{}")
    for place in (f"{bucket}/night/run", f"{bucket}/night/run/data"):
        assert read_rows(place, TASK) == read_rows(str(run), TASK)
        assert rows_digest(place) == rows_digest(str(run))
    for place, said in (("gone", "is not there"), ("rows.jsonl", "JSONL files are read from a folder here")):
        with pytest.raises(DataError, match=said):
            read_rows(f"{bucket}/{place}", TASK)
    with pytest.raises(DataError, match="cannot be read"):
        read_rows("s3://no such bucket", TASK)


def test_a_file_is_read_as_gold_rows_are(tmp_path: Path) -> None:
    path, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    rows = "".join(json.dumps({"text": f" {text} ", "label": label}) + "\n" for text, label in
                   zip(TEXTS, LABELS, strict=True))  # fmt: skip
    path.write_text(rows + rows)
    assert [(row.text, row.label) for row in read_rows(str(path), TASK)] == list(
        zip(TEXTS, LABELS, strict=True)
    )
    other.write_text(rows)
    assert rows_digest(str(path)) != rows_digest(str(other))
    digest = rows_digest(str(path))
    assert rows_digest(str(path.rename(tmp_path / "moved.jsonl"))) == digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"label": [0, 1, 5]}, "label 5 is unknown; the task has sport, trade"),
        ({"label": [[0], [1], [0]]}, "several labels each"),
        ({"label": ["sport", "art", "trade"]}, "label 'art' is unknown"),
        ({"text": ["a", " ", "c"]}, "row id1: 'text' must be a text that is not empty"),
        ({"text": None}, "has no column text; it is no dataset of this task"),
    ],
)
def test_a_dataset_that_does_not_fit_the_task_is_told_by_name(
    change: dict[str, list[object] | None], said: str, tmp_path: Path
) -> None:
    columns = {"text": TEXTS, "label": [0, 1, 0], "id": ["id0", "id1", "id2"], **change}
    told = {"info": {"features": {"label": {"names": ["sport", "trade"]}}}}
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    table = table.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(DataError, match=said):
        read_rows(str(tmp_path), TASK)


def test_names_without_ids_and_places_without_rows(tmp_path: Path) -> None:
    table = pa.table({"text": TEXTS, "label": LABELS})
    pq.write_table(table, tmp_path / "train.parquet")
    rows = read_rows(str(tmp_path), TASK)
    assert [row.label for row in rows] == LABELS
    assert len({row.id for row in rows}) == 3
    pq.write_table(table.slice(0, 0), tmp_path / "train.parquet")
    with pytest.raises(DataError, match="holds no rows"):
        read_rows(str(tmp_path), TASK)
    (tmp_path / "empty").mkdir()
    for place, said in (("empty", "holds no dataset"), ("absent.jsonl", "is not there")):
        with pytest.raises(DataError, match=said):
            rows_digest(str(tmp_path / place))
