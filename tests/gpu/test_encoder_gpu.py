"""The encoder on a GPU makes the vectors that it makes on a CPU."""

import numpy as np
import pytest
import torch

from retrieval.encoder import Encoder
from retrieval.settings import EncoderSettings
from tests.tiny_encoder import MINILM

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_on_the_gpu_are_those_of_the_cpu(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"Text {n} " + "has more words " * (n % 40) for n in range(300)]
    settings = EncoderSettings.model_validate({"model": MINILM, "preset": "minilm", "dtype": dtype})
    encoder = Encoder(settings)
    assert encoder.device.type == "cuda"
    ours = encoder.encode(texts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    reference = Encoder(settings.model_copy(update={"dtype": "float32"}))
    assert reference.device.type == "cpu"
    similarity = (ours * reference.encode(texts)).sum(1)
    assert similarity.min() > (0.9999 if dtype == "float32" else 0.999)
    assert np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-2
