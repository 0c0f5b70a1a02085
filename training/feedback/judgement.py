"""A saved student's losses as a function of its weights, on rows it learned from and on validation rows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cluster.errors import DataError
from retrieval.encoder import token_batches
from training.checks import Targets, targets_of
from training.dataset import Indices, Texts, TrainingRows
from training.feedback.differentials import LossSurface, RowLosses
from training.feedback.losses import reverse_cross_entropy
from training.feedback.settings import InfluenceSettings
from training.learner import Learner, saved_learner

_CPU_TOKENS, _GPU_TOKENS = 4_096, 16_384
"""Tokens of one pass; a derivative of eager attention keeps several times what a prediction does."""


@dataclass(frozen=True, slots=True)
class Judge:
    """A saved student, ready for derivatives: in evaluation mode, its attention written out.

    Fused attention has neither forward derivatives nor second ones.
    """

    learner: Learner
    names: tuple[str, ...]
    """Parameters that take part."""
    device: torch.device

    def surface(self, rows: pa.Table) -> LossSurface:
        """Return the training losses of rows (text, label)."""
        known = self._read(rows)

        def losses(model: Any, chosen: Indices) -> torch.Tensor:
            return self.learner.objective.losses(model, known, chosen, self.device)

        return self._surface(losses, known)

    def validation(self, rows: pa.Table, settings: InfluenceSettings) -> LossSurface:
        """Return the validation losses of rows (text, label), of the kind that the settings name."""
        if settings.loss == "cross_entropy":
            return self.surface(rows)
        known = self._read(rows)

        def losses(model: Any, chosen: Indices) -> torch.Tensor:
            targets = torch.from_numpy(known.targets[chosen]).to(self.device)
            tokens, mask = (values.to(self.device) for values in known.texts.padded(chosen))
            logits = model(input_ids=tokens, attention_mask=mask).logits.float()
            return reverse_losses(logits, targets, settings.scale)

        return self._surface(losses, known)

    def answers(self, rows: pa.Table) -> set[str]:
        """Return the labels that the student gives to rows; of students of several labels, the likeliest."""
        texts = self.learner.reader(rows["text"].to_pylist())
        every, found = np.arange(len(texts)), set[int]()
        with torch.no_grad():
            for part in self._parts(texts, every):
                given = self.learner.objective.probabilities(self.learner.model, texts, part, self.device)
                found |= set(given.argmax(-1).tolist())
        return {self.learner.labels[place] for place in found}

    def _read(self, rows: pa.Table) -> TrainingRows:
        texts = self.learner.reader(rows["text"].to_pylist())
        return TrainingRows(texts, self._targets(rows))

    def _targets(self, rows: pa.Table) -> Targets:
        return targets_of(rows, self.learner.labels)

    def _surface(self, losses: RowLosses, known: TrainingRows) -> LossSurface:
        def parts(rows: Indices) -> list[Indices]:
            return self._parts(known.texts, rows)

        return LossSurface(self.learner.model, losses, self.names, parts)

    def _parts(self, texts: Texts, rows: Indices) -> list[Indices]:
        budget = _GPU_TOKENS if self.device.type == "cuda" else _CPU_TOKENS
        found = token_batches(texts.lengths()[rows].tolist(), budget)
        return [np.array(part, dtype=np.int64) for part in found]


def reverse_losses(logits: torch.Tensor, targets: torch.Tensor, scale: float) -> torch.Tensor:
    """Return the reverse cross-entropy of every row, (rows,).

    Of rows with several labels, targets (rows, labels) 1 where one holds, it is the mean over the labels of
    that of two classes: the label holds, or it does not.
    """
    if targets.ndim == 1:
        return reverse_cross_entropy(logits, targets, scale)
    pairs = torch.stack([torch.zeros_like(logits), logits], -1).flatten(0, 1)
    each = reverse_cross_entropy(pairs, targets.flatten().long(), scale)
    return each.view(targets.shape).mean(-1)


def saved_judge(folder: Path, labels: tuple[str, ...], settings: InfluenceSettings) -> Judge:
    """Load the student in a folder, on the GPU if there is one. Errors: DataError, ModelError."""
    learner = saved_learner(folder)
    if set(learner.labels) != set(labels):
        raise DataError(
            f"influence: the student knows the labels {', '.join(learner.labels)}, the task has "
            f"{', '.join(labels)}; train it anew"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = learner.model.to(device).eval()
    model.set_attn_implementation("eager")
    names = _taking_part(model, settings)
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in names)
    return Judge(learner, names, device)


def _taking_part(model: Any, settings: InfluenceSettings) -> tuple[str, ...]:
    names = [name for name, _ in model.named_parameters()]
    encoder = f"{model.base_model_prefix}."
    if settings.parameters == "head":
        names = [name for name in names if not name.startswith(encoder)]
    return tuple(names)
