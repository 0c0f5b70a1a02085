"""What a node says of a store that it is asked to look into."""

from pathlib import Path

import pytest

from cluster.session import _unseen
from cluster.storage import LocalStore, Store
from tests.s3_faults import FaultyS3


def test_a_node_that_sees_the_probe_says_nothing(store: Store) -> None:
    store.write(".probe", b"")
    assert _unseen(store, ".probe") == ""


def test_a_folder_that_is_not_shared_is_told(tmp_path: Path) -> None:
    told = _unseen(LocalStore(tmp_path), ".probe")
    assert told.startswith("does not see it; give a folder that all nodes share, or s3://BUCKET/PREFIX")


def test_a_node_without_credentials_says_so(
    s3: FaultyS3, s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_store.write(".probe", b"")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    told = _unseen(s3_store, ".probe")
    assert "no credentials were found" in told or "Partial credentials" in told
    assert told.endswith("every node needs the network and the credentials for it")
