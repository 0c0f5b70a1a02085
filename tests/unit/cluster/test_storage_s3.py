"""An object store that fails, lies low, or refuses."""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.errors import StorageError
from cluster.s3_store import S3Store
from cluster.storage import Store, open_store, place
from tests.s3_faults import FAULTS, Fault, FaultyS3, new_bucket


@pytest.mark.parametrize("fault", FAULTS)
def test_one_fault_of_any_kind_changes_nothing(
    s3: FaultyS3, s3_store: Store, tmp_path: Path, fault: Fault
) -> None:
    content = os.urandom(9 * 2**20)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(content * 2)
    uses: list[Callable[[], object]] = [
        lambda: s3_store.write("large", content),
        lambda: s3_store.create("new", b"mine"),
        lambda: s3_store.append("log", b"line"),
        lambda: s3_store.upload("folder", tmp_path / "folder"),
        lambda: s3_store.read("large"),
        lambda: s3_store.open("large").read(),
        lambda: s3_store.fetch("folder"),
        lambda: s3_store.exists("large"),
        lambda: s3_store.list(""),
        lambda: s3_store.delete("log"),
    ]
    for use in uses:
        s3.demand(fault)
        result = use()
        if isinstance(result, bytes):
            assert result == content
    assert (s3_store.fetch("folder") / "file").read_bytes() == content * 2
    assert s3_store.list("") == ["folder/file", "large", "new"]
    assert s3_store.read("new") == b"mine"


@pytest.mark.parametrize("fault", ["cut after", "500 after"])
@pytest.mark.parametrize("times", [1, 3])
def test_a_put_whose_answer_was_lost_is_ours(s3: FaultyS3, s3_store: Store, fault: Fault, times: int) -> None:
    s3.demand(fault, "PUT", times=times)
    assert s3_store.create("claim", b"mine") is True
    s3.demand(fault, "PUT", times=times)
    assert s3_store.create("claim", b"yours") is False
    assert s3_store.read("claim") == b"mine"


def test_a_put_is_ours_though_many_answers_to_it_were_lost(s3: FaultyS3, s3_store: Store) -> None:
    s3.demand("cut after", "PUT", times=9)
    assert s3_store.create("cut", b"mine") is True
    s3.demand("500 after", "PUT", times=9)
    assert s3_store.create("failed", b"mine") is True
    s3.demand("cut before", "PUT", times=99)
    with pytest.raises(StorageError, match=r"/never: the object store cannot be reached"):
        s3_store.create("never", b"mine")
    assert s3_store.list("") == ["cut", "failed"]


def test_of_many_who_create_in_a_storm_one_succeeds(s3: FaultyS3, s3_store: Store) -> None:
    s3.rate = 0.3
    with ThreadPoolExecutor(8) as pool:
        for race in range(12):
            claims = [bytes([number]) * 1000 for number in range(8)]
            won = list(pool.map(s3_store.create, [f"epoch-{race}"] * 8, claims))
            assert won.count(True) == 1
            assert s3_store.read(f"epoch-{race}") == claims[won.index(True)]
    assert {"cut after", "500 after", "503"} <= s3.struck.keys()


def test_a_conflict_is_tried_again(s3_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.exceptions import ClientError

    assert isinstance(s3_store, S3Store)
    put, answers = s3_store._client.put_object, [409, 409]

    def conflict(**wanted: object) -> object:
        if answers:
            raise ClientError(
                {
                    "Error": {"Code": "ConditionalRequestConflict", "Message": ""},
                    "ResponseMetadata": {"HTTPStatusCode": answers.pop()},
                },
                "PutObject",
            )
        return put(**wanted)

    monkeypatch.setattr(s3_store._client, "put_object", conflict)
    assert s3_store.create("x", b"") is True
    answers += [409] * 99
    with pytest.raises(StorageError, match=r"/y: .* keeps failing \(ConditionalRequestConflict\)"):
        s3_store.create("y", b"")


def test_a_body_that_is_always_cut_is_told(s3: FaultyS3, s3_store: Store) -> None:
    s3_store.write("x", b"content")
    for use in (s3_store.read, s3_store.fetch, lambda key: s3_store.open(key).read()):
        s3.demand("cut body", "GET", "/x", times=99)
        with pytest.raises(StorageError, match="/x: the object store cannot be reached"):
            use("x")
        s3.calm()


def test_a_store_that_fails_for_good_is_told(s3: FaultyS3, s3_store: Store) -> None:
    s3.demand("503", times=99)
    with pytest.raises(StorageError, match=r"keeps failing \(SlowDown\); run the same command again later"):
        s3_store.write("x", b"")
    s3.calm()
    s3.demand("cut body", "GET", "list-type", times=2)
    assert s3_store.list("") == []


def test_an_object_replaced_while_it_is_read_is_read_whole_or_refused(s3_store: Store) -> None:
    old, new = b"o" * 20 * 2**20, b"n" * 20 * 2**20
    s3_store.write("x", old)
    with s3_store.open("x") as file:
        assert file.read(10) == old[:10]
        s3_store.write("x", new)
        with pytest.raises(StorageError, match="/x: was replaced or removed while it was read"):
            file.read()
    assert s3_store.fetch("x").read_bytes() == new
    done = threading.Event()

    def replace() -> None:
        while not done.is_set():
            s3_store.write("y", old)
            s3_store.write("y", new)
            time.sleep(0.1)

    s3_store.write("y", old)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(replace)
        for _ in range(4):
            assert s3_store.read("y") in (old, new)
            assert s3_store.fetch("y").read_bytes() in (old, new)
        done.set()
        writing.result()


def test_folders_of_more_than_a_page_are_listed_and_deleted(s3_store: Store) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: s3_store.write(f"many/{number:05d}", b""), range(1005)))
    assert len(s3_store.list("many")) == len(s3_store.entries("")) == 1005
    s3_store.delete("many")
    assert not s3_store.exists("many")


def test_marks_of_folders_are_no_objects(s3_store: Store) -> None:
    assert isinstance(s3_store, S3Store)
    s3_store._client.put_object(Bucket=s3_store.bucket, Key=f"{s3_store.prefix}/folder/", Body=b"")
    assert s3_store.exists("folder") and s3_store.list("") == s3_store.entries("folder") == []
    s3_store.delete("folder")
    assert not s3_store.exists("folder")


def test_pyarrow_writes_where_the_store_reads(s3_store: Store) -> None:
    from cluster.storage import arrow_place

    system, path = arrow_place(s3_store.within("a"))
    system.create_dir(path)
    with system.open_output_stream(f"{path}/x") as out:
        out.write(b"content")
    assert s3_store.read("a/x") == b"content" and s3_store.list("") == ["a/x"]


def test_a_good_place_is_opened_and_left_empty(s3: FaultyS3) -> None:
    store = open_store(f"s3://{new_bucket(s3)}/runs/")
    assert store.url.endswith("/runs") and not store.exists("")
    s3.demand("500", "HEAD", times=2)
    assert not open_store(store.url).exists("")


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and never answered."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def refusal(url: str) -> str:
    """Return what is said of a store that cannot be opened, which must not take long."""
    begun = time.monotonic()
    with pytest.raises(StorageError) as error:
        open_store(url)
    assert time.monotonic() - begun < 10
    assert "a-secret" not in str(error.value)
    assert error.value.exit_code == 2
    return str(error.value)


def test_an_endpoint_that_nobody_answers_at_is_told_in_time(
    s3: FaultyS3, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for endpoint in (f"http://127.0.0.1:{silent}", "http://127.0.0.1:1", "https://nowhere.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        told = refusal("s3://bucket/runs")
        assert told.startswith("s3://bucket/runs: the object store cannot be reached")
        assert endpoint in told and "AWS_ENDPOINT_URL" in told


def test_a_name_that_takes_long_to_look_up_is_told_in_time(
    s3: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.s3_store._REACH_SECONDS", 0.2)
    monkeypatch.setattr(S3Store, "_greet", lambda _: time.sleep(3))
    assert "cannot be reached (no answer in 0 s)" in refusal("s3://bucket/runs")


def test_missing_credentials_are_told_in_time(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1")
    told = refusal("s3://bucket/runs")
    assert "no credentials were found" in told and "AWS_ACCESS_KEY_ID" in told and "on every node" in told
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert "no credentials were found (The config profile (nobody)" in refusal("s3://bucket/runs")


def test_a_bucket_that_is_not_there_is_told(s3: FaultyS3) -> None:
    assert "s3://not-there/runs: there is no such bucket; create it" in refusal("s3://not-there/runs")
    with pytest.raises(StorageError, match="there is no such bucket"):
        place("s3://not-there/runs").write("x", b"")
    with pytest.raises(StorageError, match="there is no such bucket"):
        place("s3://not-there/runs").list("")


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "access is denied .* s3:PutObject"),
        (403, "InvalidAccessKeyId", "the credentials are refused .* renew them"),
        (501, "NotImplemented", "does not know conditional puts"),
        (400, "Odd", r"refuses \(Odd: it does\)"),
    ],
)
def test_refusals_are_told_with_their_remedy(s3_store: Store, status: int, code: str, reason: str) -> None:
    from botocore.exceptions import ClientError

    from cluster.s3_client import patient

    def refuse() -> None:
        raise ClientError(answer, "PutObject")

    answer = {
        "Error": {"Code": code, "Message": "it does"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    with pytest.raises(StorageError, match=f"^{s3_store.url}/x: .*{reason}"):
        patient(f"{s3_store.url}/x", refuse)


def test_a_store_that_ignores_the_condition_of_a_put_is_refused(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwrite(store: S3Store, key: str, data: bytes) -> bool:
        store.write(key, data)
        return True

    monkeypatch.setattr(S3Store, "create", overwrite)
    assert "does not keep conditional puts (If-None-Match: *)" in refusal(s3_store.url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://", "names no bucket; give s3://BUCKET/PREFIX"),
        ("s3:///runs", "names no bucket"),
        ("s3://key:hidden@bucket/runs", "credentials have no place"),
        ("s3://bucket/../other", "leads out of the store"),
    ],
)
def test_a_name_that_can_not_be_a_store_is_refused(url: str, reason: str) -> None:
    with pytest.raises(StorageError, match=reason) as error:
        place(url)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize("endpoint", ["minio:9000", "http://key:hidden@minio:9000"])
def test_an_endpoint_that_can_not_be_one_is_refused(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(StorageError, match=r"is no address|credentials have no place") as error:
        place("s3://bucket")
    assert "hidden" not in str(error.value)
