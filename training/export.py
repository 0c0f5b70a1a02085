"""A student as ONNX, for runtimes without Python or torch."""

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import ModelError, RunError, SettingsError
from cluster.storage import Store

MODEL = "model.onnx"
_RECORD = "onnx.json"
_NEEDED = ("onnx", "onnxscript")
_TOLERANCE = 1e-3
_LARGEST_FILE = 1_800_000_000
"""Bytes of weights beyond which they go to a file of their own: a file of this format ends at 2 GiB."""
_PROBES = ("A first text.", "Another one, which is somewhat longer than the first, so that one is padded.")


def check_exporter(name: str) -> None:
    """Refuse the export of a student where the packages that write the format are missing."""
    if lacking := [package for package in _NEEDED if importlib.util.find_spec(package) is None]:
        raise SettingsError(
            f"students: {name}: onnx needs {' and '.join(lacking)}; install nightshift[onnx], "
            "or set onnx to false"
        )


def export_onnx(store: Store, key: str) -> bool | None:
    """Write `model.onnx` of the student in folder `key` of the store, in a Ray task.

    Inputs are input_ids and attention_mask, (texts, tokens) int64; the output is logits, (texts, labels), in
    the order the student was trained with. Returns whether onnxruntime gave the same logits; None when it is
    not installed. What was exported from these very weights is left alone. Errors: SettingsError, ModelError,
    RunError when the logits differ.
    """
    import ray

    fingerprint = json.loads(store.read(f"{key}/manifest.json"))["fingerprint"]
    if store.exists(f"{key}/{_RECORD}"):
        record = json.loads(store.read(f"{key}/{_RECORD}"))
        if record["fingerprint"] == fingerprint:
            return None if record["verified"] is None else bool(record["verified"])
    check_exporter(key.rsplit("/", maxsplit=1)[-1])
    verified: bool | None = ray.get(ray.remote(_export_there).remote(store, key))
    record = {"fingerprint": fingerprint, "verified": verified}
    store.write(f"{key}/{_RECORD}", json.dumps(record, indent=1).encode())
    return verified


def _export_there(store: Store, key: str) -> bool | None:
    with tempfile.TemporaryDirectory() as folder:
        verified = export_folder(store.fetch(key), Path(folder))
        store.upload(key, Path(folder))
    return verified


def export_folder(student: Path, target: Path) -> bool | None:
    """Write `model.onnx` of a saved student into a folder; returns and errors as `export_onnx`."""
    import torch

    from training.classifier import saved_classifier

    model, tokenizer = saved_classifier(student)
    model.eval()
    probe = tokenizer(list(_PROBES), padding=True, return_tensors="pt")
    inputs = (probe["input_ids"], probe["attention_mask"])
    sizes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    weights = sum(value.numel() * value.element_size() for value in model.state_dict().values())
    with torch.no_grad():
        expected = logits_of(model)(*inputs).numpy()
    try:
        torch.onnx.export(
            logits_of(model),
            inputs,
            target / MODEL,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(sizes, sizes),
            external_data=weights > _LARGEST_FILE,
            verbose=False,
        )
    except (RuntimeError, torch.onnx.errors.OnnxExporterError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{student}: cannot be exported as ONNX ({reason}); set onnx to false") from error
    return _same(target / MODEL, inputs, expected)


def logits_of(model: Any) -> Any:
    """Return a module that takes token ids and mask by position and returns the logits alone."""
    import torch

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    return Logits().eval()


def _same(path: Path, inputs: tuple[Any, Any], expected: Any) -> bool | None:
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    given = {"input_ids": inputs[0].numpy(), "attention_mask": inputs[1].numpy()}
    (logits,) = session.run(["logits"], given)
    if not np.allclose(logits, expected, atol=_TOLERANCE):
        far = float(np.abs(logits - expected).max())
        raise RunError(f"{path.name}: its logits differ from the student's by {far:.2g}; set onnx to false")
    return True
