"""Rows of texts as what is weighed: the small LSTM, its batches, and its losses."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import torch
from torch.nn.functional import cross_entropy

from retrieval.encoder import token_batches
from training.checks import label_ids
from training.dataset import Indices, shuffled_batches
from training.feedback.bilevel import Problem
from training.feedback.losses import reverse_cross_entropy
from training.feedback.lstm import read_words, seeded_classifier
from training.feedback.settings import WeightSettings

_CPU_PASS_TOKENS = 4_096
_GPU_PASS_TOKENS = 32_768
"""Words of a pass that is differentiated twice, which takes some 160 kB a word."""


def text_problem(rows: pa.Table, labels: Sequence[str], settings: WeightSettings) -> Problem:
    """Return checked rows of texts as a problem, its model on the GPU if there is one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    texts, words = read_words(rows["text"].to_pylist(), settings.vocabulary, settings.max_tokens)
    lengths, targets = texts.lengths(), torch.from_numpy(label_ids(rows, labels)).to(device)
    model = seeded_classifier(words, len(labels), settings.embedding, settings.hidden, settings.seed)

    def logits(model: torch.nn.Module, chosen: Indices) -> torch.Tensor:
        tokens, _ = texts.padded(chosen)
        found: torch.Tensor = model(tokens.to(device), torch.from_numpy(lengths[chosen]))
        return found

    def target(chosen: Indices) -> torch.Tensor:
        return targets[torch.from_numpy(chosen).to(device)]

    def inner(model: torch.nn.Module, chosen: Indices) -> torch.Tensor:
        return cross_entropy(logits(model, chosen), target(chosen), reduction="none")

    def outer(model: torch.nn.Module, chosen: Indices) -> torch.Tensor:
        return reverse_cross_entropy(logits(model, chosen), target(chosen), settings.scale)

    epochs = _epochs(len(rows), settings)

    def training(iteration: int) -> Iterable[Indices]:
        for epoch in range(iteration * epochs, (iteration + 1) * epochs):
            yield from shuffled_batches(texts, settings.batch_size, settings.seed, epoch)

    def passes(chosen: Indices) -> Iterable[Indices]:
        budget = _GPU_PASS_TOKENS if device.type == "cuda" else _CPU_PASS_TOKENS
        for batch in token_batches(lengths[chosen].tolist(), budget):
            yield chosen[np.array(batch, dtype=np.int64)]

    drawn = np.random.default_rng(settings.seed).permutation(len(rows))[: settings.outer_rows]
    return Problem(model.to(device), len(rows), inner, outer, training, passes, np.sort(drawn))


def _epochs(rows: int, settings: WeightSettings) -> int:
    """Return the passes over the rows of a training."""
    steps = math.ceil(rows / settings.batch_size)
    return max(settings.epochs, math.ceil(settings.least_steps / steps))
