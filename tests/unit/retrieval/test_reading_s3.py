"""A corpus in an object store: the same documents, splits and parts as from a folder."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import DataError, UserError
from cluster.storage import place
from retrieval.reading.files import corpus_files
from retrieval.reading.splits import cut_splits
from retrieval.reading.work import check_corpus, read_documents, read_split
from retrieval.settings import CorpusSettings

ROWS = [{"text": f"Text {number}.", "title": f"T{number}"} for number in range(50)]


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("NIGHTSHIFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        boto3.client("s3").create_bucket(Bucket="reading")
        yield "s3://reading"
    server.stop()


def test_every_format_is_read_from_an_object_store(bucket: str, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    store = place(bucket)
    store.write("each/a.jsonl", lines)
    store.write("each/b.jsonl.gz", gzip.compress(lines))
    store.write("each/c.parquet", (tmp_path / "a.parquet").read_bytes())
    store.write(
        "each/d.csv", ("title,text\n" + "".join(f"{r['title']},{r['text']}\n" for r in ROWS)).encode()
    )
    store.write("each/e.arrow", (tmp_path / "a.arrow").read_bytes())
    (tmp_path / "a.jsonl").write_bytes(lines)
    expected = list(read_documents(CorpusSettings(path=str(tmp_path / "a.jsonl"))))
    for name in store.list("each"):
        settings = CorpusSettings(path=f"{bucket}/{name}")
        check_corpus(settings)
        assert list(read_documents(settings)) == expected
    settings = CorpusSettings(path=f"{bucket}/each/")
    assert list(read_documents(settings)) == expected
    files = corpus_files(settings)
    assert [file.url for file in files] == [f"{bucket}/{name}" for name in store.list("each")]
    assert all(file.hash.startswith("etag:") for file in files)
    splits = cut_splits(files, 500)
    results = [
        read_split(store.within("index"), n, split, settings, None, 100) for n, split in enumerate(splits)
    ]
    assert len(results) > 10
    assert sum(rows for result in results for _, rows in result.parts) == 5 * len(ROWS)


def test_a_bad_row_and_a_missing_place_are_named(bucket: str) -> None:
    place(bucket).write("bad/a.jsonl", b'{"text": "a"}\n{"text": "b"}\nbroken\n')
    with pytest.raises(DataError, match=r"s3://reading/bad/a\.jsonl:3: is not a JSON object"):
        check_corpus(CorpusSettings(path=f"{bucket}/bad"))
    settings = CorpusSettings(path=f"{bucket}/bad", bad_rows="refuse")
    results = [
        read_split(place(f"{bucket}/out"), n, split, settings, None, 100)
        for n, split in enumerate(cut_splits(corpus_files(settings), 10))
    ]
    assert [example for result in results for example in result.examples] == [
        "s3://reading/bad/a.jsonl:3: is not a JSON object (Expecting value)"
    ]
    with pytest.raises(DataError, match=r"corpus s3://reading/none: there is no such file or folder"):
        check_corpus(CorpusSettings(path=f"{bucket}/none"))
    with pytest.raises(UserError):
        check_corpus(CorpusSettings(path="s3://no-such-bucket/none"))


def test_a_text_or_a_dataset_is_read_from_an_object_store(bucket: str) -> None:
    store = place(bucket)
    store.write("texts/b.txt", b"Second.")
    store.write("texts/a.txt", b"First.")
    assert [d.text for d in read_documents(CorpusSettings(path=f"{bucket}/texts"))] == ["First.", "Second."]
    store.write("set/dataset_dict.json", b'{"splits": ["train"]}')
    with pytest.raises(DataError, match="with the splits train"):
        check_corpus(CorpusSettings(path=f"{bucket}/set"))
