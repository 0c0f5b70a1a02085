"""Texts to vectors: a transformer encoder with batches sorted by length and filled by tokens."""

import threading
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from cluster.errors import ModelError
from cluster.models import ResolvedModel, resolve_model
from retrieval.settings import EncoderSettings

if TYPE_CHECKING:
    import torch

Vectors = npt.NDArray[np.float32]

_CPU_BATCH_TOKENS = 4_096
_GPU_BATCH_TOKENS = 65_536


Tokens = list[list[int]]
"""Token ids of each text, cut to what the encoder reads."""


class Encoder:
    """A loaded encoder, on the GPU where there is one; needs no Ray.

    Threads may share one: tokenising runs beside the forward pass of another thread, and forward passes
    go one at a time.
    """

    def __init__(self, settings: EncoderSettings) -> None:
        import torch

        model = resolve_model(settings.model)
        gpu = torch.cuda.is_available()
        self.settings = settings
        self.device = torch.device("cuda" if gpu else "cpu")
        self.dtype = _dtype(settings, gpu)
        self.batch_tokens = settings.batch_tokens or (_GPU_BATCH_TOKENS if gpu else _CPU_BATCH_TOKENS)
        self._tokenizer, self._model = _load(model, settings.model, self.dtype)
        self._model.to(self.device).eval()
        self._padding = int(self._tokenizer.pad_token_id or 0)
        self._tokenise_lock = threading.Lock()
        self._forward_lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._model.config.hidden_size)

    def encode(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> Vectors:
        """Return one vector per text, shape (texts, dimension), float32, in the order of the texts."""
        return self.encode_tokens(self.tokenise(texts, kind))

    def tokenise(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> Tokens:
        """Return the token ids of each text behind the preset's prefix, at most max_tokens."""
        if not texts:
            return []
        family = self.settings.family
        prefix = family.query_prefix if kind == "query" else family.document_prefix
        # Two threads that set the truncation of one tokenizer at once would make it fail.
        with self._tokenise_lock:
            tokens: Tokens = self._tokenizer(
                [prefix + text for text in texts],
                truncation=True,
                max_length=self.settings.max_tokens,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        return tokens

    def encode_tokens(self, tokens: Tokens) -> Vectors:
        """Return one vector per text, as `encode` does."""
        import torch

        vectors = np.empty((len(tokens), self.dimension), dtype=np.float32)
        batches = list(token_batches([len(row) for row in tokens], self.batch_tokens))
        if not batches:
            return vectors
        with self._forward_lock, torch.inference_mode():
            # They stay on the device until all are done: each copy back would wait for the device.
            pooled = torch.cat([self._forward([tokens[row] for row in rows]) for rows in batches])
            vectors[np.concatenate(batches)] = pooled.cpu().numpy()
        return vectors

    def _forward(self, tokens: Tokens) -> "torch.Tensor":
        import torch

        lengths = torch.tensor([len(row) for row in tokens])
        padded = np.full((len(tokens), int(lengths.max())), self._padding, dtype=np.int64)
        for place, row in enumerate(tokens):
            padded[place, : len(row)] = row
        ids = torch.from_numpy(padded).to(self.device, non_blocking=True)
        mask = (torch.arange(padded.shape[1]) < lengths.unsqueeze(1)).to(self.device, non_blocking=True)
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        family = self.settings.family
        pooled = hidden[:, 0] if family.pooling == "cls" else _mean(hidden, mask)
        return torch.nn.functional.normalize(pooled, dim=1) if family.normalise else pooled


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Yield positions, longest texts first, so that a batch padded to its longest stays in the budget.

    A text longer than the budget makes a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def shared_encoder(settings: EncoderSettings) -> Encoder:
    """Return this process's encoder, loaded at the first call."""
    with _loading:
        return _load_once(settings)


_load_once = lru_cache(maxsize=1)(Encoder)
_loading = threading.Lock()


def _mean(hidden: "torch.Tensor", mask: "torch.Tensor") -> "torch.Tensor":
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _dtype(settings: EncoderSettings, gpu: bool) -> "torch.dtype":
    import torch

    if settings.dtype != "auto":
        return torch.float32 if settings.dtype == "float32" else torch.bfloat16
    fast = torch.cuda.is_bf16_supported() if gpu else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def _load(model: ResolvedModel, name: str, dtype: "torch.dtype") -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(model.source, **model.arguments)
        loaded = AutoModel.from_pretrained(
            model.source, dtype=dtype, attn_implementation="sdpa", **model.arguments
        )
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(": ")
        raise ModelError(
            f"encoder.model {name}: cannot be loaded ({reason}); give an encoder with its tokenizer"
        ) from error
    return tokenizer, loaded
