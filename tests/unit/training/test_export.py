"""The export of a student: what can be seen without the packages that write the format, and with them."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import SettingsError
from tests.tiny_encoder import save_tiny_encoder
from training.classifier import new_classifier, save_classifier
from training.export import MODEL, check_exporter, export_folder, logits_of

THERE = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any, Path]:
    folder = tmp_path_factory.mktemp("tiny")
    model, tokenizer = new_classifier(save_tiny_encoder(folder / "base"), ["a", "b", "c"], 0.0, 0)
    save_classifier(model, tokenizer, 64, folder / "student")
    return model.eval(), tokenizer, folder / "student"


def test_packages_that_are_missing_are_named_with_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        SettingsError, match=r"students: s: onnx needs onnx and onnxscript; install nightshift"
    ):
        check_exporter("s")


@pytest.mark.filterwarnings("ignore")
def test_the_exported_program_takes_any_number_and_length_of_texts(tiny: tuple[Any, Any, Path]) -> None:
    import torch

    model, tokenizer, _ = tiny
    given = tokenizer(["One.", "Two words and more."], padding=True, return_tensors="pt")
    size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    inputs = (given["input_ids"], given["attention_mask"])
    program = torch.export.export(logits_of(model), inputs, dynamic_shapes=(size, size)).module()
    other = tokenizer(["A", "text", "of", "quite another length than it was traced with"], padding=True)
    tensors = [torch.tensor(other[name]) for name in ("input_ids", "attention_mask")]
    with torch.no_grad():
        expected = model(input_ids=tensors[0], attention_mask=tensors[1]).logits
    torch.testing.assert_close(program(*tensors), expected)


@pytest.mark.skipif(not THERE, reason="needs the extra onnx")
@pytest.mark.filterwarnings("ignore")
def test_the_file_gives_the_students_logits(tiny: tuple[Any, Any, Path], tmp_path: Path) -> None:
    runtime = importlib.util.find_spec("onnxruntime") is not None
    assert export_folder(tiny[2], tmp_path) is (True if runtime else None)
    assert (tmp_path / MODEL).stat().st_size > 0
