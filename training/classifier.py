"""Loading and saving of sequence classifiers, without a word on the terminal."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from cluster.models import resolve_model

_KINDS = {False: "single_label_classification", True: "multi_label_classification"}


def new_classifier(
    base: str, labels: Sequence[str], dropout: float, seed: int, several: bool = False
) -> tuple[Any, Any]:
    """Return (model, tokenizer): a pretrained encoder with a fresh head, one output per label in order.

    base is a hub id, a folder, or `package:<import name>/<path>`. Weights are float32. `several` says that a
    text may have several labels, for whoever loads the saved student. Errors: ModelError.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    quiet()
    found = resolve_model(base)
    torch.manual_seed(seed)
    with told(f"model {base}: cannot become a classifier", "name an encoder"):
        config: Any = AutoConfig.from_pretrained(found.source, **found.arguments)
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: position for position, label in enumerate(labels)}
        config.problem_type = _KINDS[several]
        set_dropout(config, dropout)
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            found.source, config=config, dtype=torch.float32, **found.arguments
        )
    return model, encoder_tokenizer(base)


def encoder_tokenizer(base: str) -> Any:
    """Return the tokenizer of a pretrained encoder. Errors: ModelError."""
    from transformers import AutoTokenizer

    quiet()
    found = resolve_model(base)
    with told(f"model {base}: cannot become a classifier", "name an encoder"):
        tokenizer: Any = AutoTokenizer.from_pretrained(found.source, **found.arguments)
    if tokenizer.pad_token_id is None:
        raise ModelError(f"model {base}: its tokenizer has no padding token; name an encoder such as BERT")
    return tokenizer


def saved_classifier(folder: Path) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a folder that a student was saved in."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    quiet()
    with told(f"{folder}: holds no student that can be loaded", "train it again"):
        model: Any = AutoModelForSequenceClassification.from_pretrained(folder)
        tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    return model, tokenizer


@contextmanager
def told(what: str, remedy: str) -> Iterator[None]:
    """Turn what goes wrong in loading a model or a tokenizer into a ModelError of one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise ModelError(f"{what} ({reason}); {remedy}") from error


def takes_several(model: Any) -> bool:
    """Say whether a classifier was trained to give a text several labels."""
    return bool(model.config.problem_type == _KINDS[True])


def save_classifier(model: Any, tokenizer: Any, max_tokens: int, folder: Path) -> None:
    """Write model and tokenizer in `save_pretrained` layout; the tokenizer keeps the length trained on."""
    tokenizer.model_max_length = max_tokens
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def set_dropout(config: Any, dropout: float) -> None:
    """Set every dropout of a model's configuration."""
    # Architectures name their dropouts differently (hidden_dropout_prob, seq_classif_dropout, ...).
    for name, value in config.to_dict().items():
        if "dropout" in name and (value is None or isinstance(value, float | int)):
            setattr(config, name, dropout)


def quiet() -> None:
    """Keep transformers' progress bars and notes off the terminal."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
