"""Causal students: instruction-tuned language models that read instruction and text and name the label."""

import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from cluster.models import converted_model
from training.classifier import quiet, set_dropout, told
from training.records import Wording

CARD = "nightshift.json"
"""File of a causal student that holds what its weights do not: kind, labels, prompt, length."""
_TEXT = "<<the text goes here>>"


@dataclass(frozen=True, slots=True)
class Prompt:
    """How a text is put to a causal student, and what it is to answer.

    A text stands between head and tail; answers[i] is the reply that means labels[i].
    """

    labels: tuple[str, ...]
    head: str
    tail: str
    answers: tuple[str, ...]


def prompt_for(tokenizer: Any, labels: Sequence[str], wording: Wording) -> Prompt:
    """Return the prompt of a task: instruction, labels with their verbalizers, text (TarGEN's students).

    It goes through the tokenizer's chat template where there is one; otherwise it ends in a cue.
    """
    described = (f"- {label}: {wording.verbalizers.get(label, label)}" for label in labels)
    asked = f"{wording.instruction.strip()}\n\nLabels:\n" + "\n".join(described)
    asked += f"\n\n{wording.text_type}:\n{_TEXT}\n\nAnswer with the label alone."
    if tokenizer.chat_template:
        turns = [{"role": "user", "content": asked}]
        whole: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        answers = tuple(labels)
    else:
        whole = f"{asked}\nLabel:"
        answers = tuple(f" {label}" for label in labels)
    head, _, tail = whole.partition(_TEXT)
    return Prompt(tuple(labels), head, tail, answers)


def answer_ids(tokenizer: Any, prompt: Prompt) -> list[list[int]]:
    """Return the tokens of every answer, such that none is how another one begins.

    Where that is not so by itself (`art`, `art history`), each ends in the token that ends a reply.
    """
    found: list[list[int]] = [tokenizer(a, add_special_tokens=False)["input_ids"] for a in prompt.answers]
    if len({tuple(ids) for ids in found}) < len(found):
        raise ModelError(f"labels {', '.join(prompt.labels)}: two of them have the same tokens; rename one")
    begins = any(
        one is not two and two[: len(one)] == one for one in found for two in found if len(one) < len(two)
    )
    return [[*ids, int(tokenizer.eos_token_id)] for ids in found] if begins else found


def new_causal(base: str, dropout: float, seed: int) -> tuple[Any, Any]:
    """Return (model, tokenizer): a pretrained causal language model, float32, without fresh weights.

    base is a hub id, a folder, or `package:<import name>/<path>`; GGUF weights are converted first. Errors:
    ModelError.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    folder = converted_model(base)
    torch.manual_seed(seed)
    with told(f"model {base}: cannot become a causal student", "name a causal model, or set kind: encoder"):
        config: Any = AutoConfig.from_pretrained(folder)
        set_dropout(config, dropout)
        model: Any = AutoModelForCausalLM.from_pretrained(folder, config=config, dtype=torch.float32)
    if not {"position_ids", "logits_to_keep"} <= inspect.signature(model.forward).parameters.keys():
        raise ModelError(f"model {base}: cannot be padded at the start; name one such as SmolLM2 or Qwen")
    return model, causal_tokenizer(base)


def causal_tokenizer(base: str) -> Any:
    """Return the tokenizer of a causal model, with something to pad with. Errors: ModelError."""
    from transformers import AutoTokenizer

    quiet()
    folder = converted_model(base)
    with told(f"model {base}: has no tokenizer that can be used", "name another model"):
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if tokenizer.eos_token_id is None:
        raise ModelError(f"model {base}: its tokenizer has no token that ends a reply; name another model")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def saved_causal(folder: Path) -> tuple[Any, Any, Prompt, int]:
    """Return (model, tokenizer, prompt, tokens of a text at most) of a folder that `save_causal` wrote."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quiet()
    with told(f"{folder}: holds no causal student that can be loaded", "train it again"):
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        kept = card["prompt"]
        prompt = Prompt(tuple(kept["labels"]), kept["head"], kept["tail"], tuple(kept["answers"]))
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        return model, tokenizer, prompt, int(card["max_tokens"])


def save_causal(model: Any, tokenizer: Any, prompt: Prompt, max_tokens: int, folder: Path) -> None:
    """Write model and tokenizer in `save_pretrained` layout, and beside them what a prediction needs."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = {"kind": "causal", "max_tokens": max_tokens, "prompt": asdict(prompt)}
    (folder / CARD).write_text(json.dumps(card, indent=1, ensure_ascii=False), encoding="utf-8")
