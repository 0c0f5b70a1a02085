"""Texts as vectors: by an encoder, or by the state of a causal language model at the text's last token."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cluster.errors import ModelError
from cluster.models import converted_model, resolve_model
from cluster.settings import digest
from retrieval.encoder import shared_encoder, token_batches
from retrieval.settings import EncoderSettings
from synth.metrics.metric import Feature, Measured, NotComputed, Side

Vectors = NDArray[np.float32]

_CPU_BATCH_TOKENS, _GPU_BATCH_TOKENS = 2_048, 16_384

_reading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Embedding:
    """A text's vector as a document, of unit length, in single precision unless the encoder names another."""

    encoder: EncoderSettings

    @property
    def key(self) -> str:
        reads = self.encoder.model_dump(mode="json", include={"preset", "max_tokens", "dtype"})
        return f"embedding:1:{digest([_identity(self.encoder.model), reads])}"

    @property
    def on_gpu(self) -> bool:
        return True

    def read(self, texts: list[str]) -> pa.Array:
        """Return one list of float32 per text, all of one length; NotComputed when there is no such model."""
        # In bfloat16 a GPU and a CPU differ much, and a text's vector with what else is in its batch.
        precision = "float32" if self.encoder.dtype == "auto" else self.encoder.dtype
        try:
            encoder = shared_encoder(self.encoder.model_copy(update={"dtype": precision}))
            vectors = encoder.encode(texts)
        except ModelError as error:
            raise NotComputed(str(error)) from error
        return _lists(unit(vectors))


@dataclass(frozen=True, slots=True)
class Hidden:
    """The last layer's state at a text's last token, as mauve-text's features are.

    An empty text is the one token that begins a text, or else ends it.
    """

    model: str
    max_tokens: int = 512

    @property
    def key(self) -> str:
        return f"hidden:1:{digest([_identity(self.model), self.max_tokens])}"

    @property
    def on_gpu(self) -> bool:
        return True

    def read(self, texts: list[str]) -> pa.Array:
        """Return one list of float32 per text, all of one length; NotComputed when there is no such model."""
        with _reading:
            try:
                tokenizer, model = _causal(self.model)
            except ModelError as error:
                raise NotComputed(str(error)) from error
            longest = getattr(model.config, "max_position_embeddings", None) or self.max_tokens
            limits = {"truncation": True, "max_length": min(self.max_tokens, longest)}
            tokens = tokenizer(texts, **limits)["input_ids"] if texts else []
            empty = [self._empty(tokenizer)] if not all(tokens) else []
            return _lists(_last_states(model, [list(each) or empty for each in tokens]))

    def _empty(self, tokenizer: Any) -> int:
        for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
            if token is not None:
                return int(token)
        raise NotComputed(f"model {self.model} has no token for an empty text; name another model")


def matrix(array: pa.Array) -> Vectors:
    """Return vectors as they were read, shape (texts, dimension); NotComputed when one is not finite."""
    vectors: Vectors = array.flatten().to_numpy().reshape(len(array), array.type.list_size)
    if not np.isfinite(vectors).all():
        raise NotComputed("the model gives vectors that are no numbers; set its dtype to float32")
    return vectors


def unit(vectors: Vectors) -> Vectors:
    """Return vectors at unit length; those without length stay as they are."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)


def embeddings(encoder: EncoderSettings | None, *sides: Side) -> Mapping[Side, tuple[Feature, ...]]:
    """Return what is to be read of each side, nothing without an encoder."""
    return {side: (Embedding(encoder),) for side in sides} if encoder else {}


def embedding(encoder: EncoderSettings | None, metric: str) -> Embedding:
    """Return the feature; NotComputed names a metric's setting when it has no encoder."""
    if encoder is None:
        raise NotComputed(f"it needs an encoder (metrics.{metric}.encoder)")
    return Embedding(encoder)


def vectors_of(data: Measured, metric: str, encoder: EncoderSettings | None, side: Side = "rows") -> Vectors:
    """Return a side's vectors by an encoder; NotComputed names the metric's setting when there is none."""
    return matrix(data.read(embedding(encoder, metric), side))


@contextmanager
def steady_products() -> Iterator[int]:
    """Hold matrix products to one thread each, and yield how many threads there are for several at a time.

    The last digits of a product depend on how many threads share it.
    """
    from threadpoolctl import threadpool_info, threadpool_limits

    threads = max((int(pool["num_threads"]) for pool in threadpool_info()), default=1)
    with threadpool_limits(1):
        yield threads


def _identity(model: str) -> str:
    """Return what tells a model's weights from others: their revision, or where there are none the name."""
    try:
        return resolve_model(model).revision
    except ModelError:
        return model


def _lists(vectors: Vectors) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])


@lru_cache(maxsize=1)
def _causal(name: str) -> tuple[Any, Any]:
    """Return this process's (tokenizer, model), loaded at the first call, in single precision."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = converted_model(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="right", truncation_side="right")
        model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(": ")
        raise ModelError(
            f"model {name}: cannot be loaded ({reason}); name a causal language model"
        ) from error
    return tokenizer, model.to("cuda" if torch.cuda.is_available() else "cpu").eval()


def _last_states(model: Any, tokens: Sequence[list[int]]) -> Vectors:
    import torch

    states = np.empty((len(tokens), int(model.config.hidden_size)), np.float32)
    budget = _GPU_BATCH_TOKENS if model.device.type == "cuda" else _CPU_BATCH_TOKENS
    with torch.inference_mode():
        for places in token_batches([len(each) for each in tokens], budget):
            some = [torch.tensor(tokens[place]) for place in places]
            ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True).to(model.device)
            last = torch.tensor([len(each) - 1 for each in some], device=model.device)
            # What stands behind the last token cannot reach it: a causal model looks back alone.
            mask = (torch.arange(ids.shape[1], device=model.device) <= last.unsqueeze(1)).long()
            found = model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
            ends = found[torch.arange(len(some), device=model.device), last]
            states[places] = ends.float().cpu().numpy()
    return states
