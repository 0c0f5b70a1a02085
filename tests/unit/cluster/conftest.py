"""An object store for the tests of `cluster`, and a store of each kind."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.storage import Store, place
from tests.s3_faults import FaultyS3, credentials, faulty_s3, new_bucket


@pytest.fixture(scope="session")
def s3_server() -> Iterator[FaultyS3]:
    """One server for all tests."""
    with faulty_s3() as server:
        yield server


@pytest.fixture
def s3(s3_server: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """The server with nothing failing, in the environment of its user; retries do not wait long."""
    for name, value in credentials(s3_server.url).items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NIGHTSHIFT_CACHE_GB", raising=False)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    monkeypatch.setattr("cluster.s3_client._WAITS", (0.01,) * 11)
    yield s3_server
    s3_server.calm()


@pytest.fixture
def s3_store(s3: FaultyS3) -> Store:
    """A store in a bucket of its own."""
    return place(f"s3://{new_bucket(s3)}/some/prefix")


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of either kind."""
    if request.param == "folder":
        return place(str(tmp_path / "new" / "store"))
    made: Store = request.getfixturevalue("s3_store")
    return made
