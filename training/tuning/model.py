"""Loading of a teacher to tune, with LoRA's matrices if asked for, and saving of what vLLM loads."""

from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from cluster.models import converted_model
from training.classifier import quiet
from training.tuning.settings import LoraSettings, TuningSettings


def base_tokenizer(base: str) -> Any:
    """Return the tokenizer of a model, with a token to pad with; ModelError when it cannot be loaded."""
    from transformers import AutoTokenizer

    quiet()
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(converted_model(base))
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"model {base}: its tokenizer cannot be loaded ({_reason(error)})") from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def new_teacher(base: str, settings: TuningSettings, gpu: bool) -> Any:
    """Return a causal language model to tune, float32; the frozen weights beside LoRA are bf16 on a GPU."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    attention = {"attn_implementation": "flash_attention_2"} if gpu and is_flash_attn_2_available() else {}
    if settings.lora is None:
        return _loaded(base, torch.float32, **attention)
    model = _loaded(base, torch.bfloat16 if gpu else torch.float32, **attention)
    return _with_lora(model, settings.lora, settings.seed)


def _loaded(base: str, precision: Any, **arguments: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    quiet()
    try:
        folder = converted_model(base)
        if getattr(AutoConfig.from_pretrained(folder), "quantization_config", None):
            raise ModelError(f"model {base}: is quantised and cannot be tuned; name its unquantised weights")
        model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=precision, **arguments)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(
            f"model {base}: cannot be tuned ({_reason(error)}); name a causal language model"
        ) from error
    return model


def _with_lora(model: Any, lora: LoraSettings, seed: int) -> Any:
    import torch
    from peft import LoraConfig, TaskType, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
    )
    try:
        # The matrices are float32 even where the frozen weights are not.
        return get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"tune.lora.targets: {_reason(error)}") from error


def save_teacher(
    weights: dict[str, Any], base: str, settings: TuningSettings, tokenizer: Any, ends: int, folder: Path
) -> None:
    """Write a tuned teacher in `save_pretrained` layout, in the precision that its base is kept in.

    weights is the whole state dict of what `new_teacher` returned; ends is the token that ends a reply.
    LoRA's matrices are added to the weights, or with `merge: false` saved alone, as peft loads them.
    """
    tokenizer.save_pretrained(folder)
    kept = _kept_precision(base)
    if settings.lora is None:
        model = _loaded(base, kept)
        model.load_state_dict(weights)
    else:
        model = new_teacher(base, settings, gpu=False)
        model.load_state_dict(weights)
        if not settings.merge:
            model.peft_config["default"].base_model_name_or_path = base
            model.save_pretrained(folder)
            return
        # Added up in float32, and rounded once.
        model = model.merge_and_unload().to(kept)
    _end_with(model.generation_config, ends)
    model.save_pretrained(folder)


def _kept_precision(base: str) -> Any:
    import torch
    from transformers import AutoConfig

    kept = AutoConfig.from_pretrained(converted_model(base)).dtype
    return kept if kept in (torch.bfloat16, torch.float16) else torch.float32


def _end_with(config: Any, token: int) -> None:
    """Let generation stop at a token, beside those at which it stops anyway."""
    known = config.eos_token_id
    tokens = [] if known is None else known if isinstance(known, list) else [known]
    if token not in tokens:
        config.eos_token_id = [*tokens, token]


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
