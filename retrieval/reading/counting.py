"""Tokens of texts: the encoder's, by its tokenizer alone, or words where there is no encoder."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cluster.errors import ModelError
from cluster.models import ResolvedModel, resolve_model
from retrieval.settings import EncoderSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_WORD = re.compile(r"\S+")


class Counter(Protocol):
    """Counts and places the tokens of texts."""

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return for each text what the encoder would read of it, were nothing cut off."""

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Return where the tokens of a text itself begin and end, in characters."""


class Words:
    """Takes words for tokens."""

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    def spans(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in _WORD.finditer(text)]


class EncoderTokens:
    """Counts as an encoder reads: with its special tokens and the preset's document prefix."""

    def __init__(self, settings: EncoderSettings) -> None:
        self._prefix = settings.family.document_prefix
        self._tokenizer = _load(resolve_model(settings.model), settings.model)
        # The file may ask for cutting and padding as the model was trained.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def count(self, texts: Sequence[str]) -> list[int]:
        prefixed = [self._prefix + text for text in texts] if self._prefix else list(texts)
        return [len(encoded) for encoded in self._tokenizer.encode_batch_fast(prefixed)]

    def spans(self, text: str) -> list[tuple[int, int]]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).offsets)


@lru_cache(maxsize=2)
def counter_of(encoder: EncoderSettings | None) -> Counter:
    """Return the counter of an encoder's tokens, loaded once a process; ModelError when that fails."""
    return EncoderTokens(encoder) if encoder else Words()


def _load(model: ResolvedModel, name: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    path = _tokenizer_file(model)
    if path is None:
        return _through_transformers(model, name)
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing narrower
        raise ModelError(
            f"encoder.model {name}: {path} cannot be read ({error}); copy the model again"
        ) from error


def _tokenizer_file(model: ResolvedModel) -> Path | None:
    """Return the file that holds all of a tokenizer, if the model has one."""
    if isinstance(model.path, Path):
        path = model.path / "tokenizer.json"
        return path if model.gguf_file is None and path.is_file() else None
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.path, "tokenizer.json", revision=model.revision))
    except (EntryNotFoundError, LocalEntryNotFoundError):
        return None


def _through_transformers(model: ResolvedModel, name: str) -> "Tokenizer":
    """Build the tokenizer of a model that has no tokenizer.json; this loads torch too."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(model.source, **model.arguments)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"encoder.model {name}: its tokenizer cannot be loaded ({reason}); "
            "give an encoder with its tokenizer"
        ) from error
    if not found.is_fast:
        raise ModelError(f"encoder.model {name}: has no fast tokenizer; save one as tokenizer.json beside it")
    return found.backend_tokenizer
