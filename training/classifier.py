"""Loading and saving of sequence classifiers, without a word on the terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from cluster.models import resolve_model


def new_classifier(base: str, labels: Sequence[str], dropout: float, seed: int) -> tuple[Any, Any]:
    """Return (model, tokenizer): a pretrained encoder with a fresh head, one output per label in order.

    base is a hub id, a folder, or `package:<import name>/<path>`. Weights are float32. Errors: ModelError.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    quiet()
    found = resolve_model(base)
    torch.manual_seed(seed)
    try:
        config: Any = AutoConfig.from_pretrained(found.source, **found.arguments)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: position for position, label in enumerate(labels)}
        _set_dropout(config, dropout)
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            found.source, config=config, dtype=torch.float32, **found.arguments
        )
        tokenizer: Any = AutoTokenizer.from_pretrained(found.source, **found.arguments)
    except (OSError, ValueError, KeyError, ImportError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"model {base}: cannot become a classifier ({reason}); name an encoder") from error
    if tokenizer.pad_token_id is None:
        raise ModelError(f"model {base}: its tokenizer has no padding token; name an encoder such as BERT")
    return model, tokenizer


def saved_classifier(folder: Path) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a folder that a student was saved in."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    quiet()
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{folder}: holds no student that can be loaded ({reason})") from error
    return model, tokenizer


def save_classifier(model: Any, tokenizer: Any, max_tokens: int, folder: Path) -> None:
    """Write model and tokenizer in `save_pretrained` layout; the tokenizer keeps the length trained on."""
    tokenizer.model_max_length = max_tokens
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _set_dropout(config: Any, dropout: float) -> None:
    # Architectures name their dropouts differently (hidden_dropout_prob, seq_classif_dropout, ...).
    for name, value in config.to_dict().items():
        if "dropout" in name and (value is None or isinstance(value, float | int)):
            setattr(config, name, dropout)


def quiet() -> None:
    """Keep transformers' progress bars and notes off the terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
