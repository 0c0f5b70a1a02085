"""What a student is taught: the loss of each row, and the probabilities it gives to the labels."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch.nn.functional import cross_entropy

from training.dataset import Indices, TrainingRows


class Objective(Protocol):
    """Turns rows into losses and probabilities; the loop knows of neither labels nor logits."""

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the loss of each chosen row, (rows,) float32, with gradients; weights are not in it."""

    def probabilities(
        self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device
    ) -> torch.Tensor:
        """Return the probability of every label for each chosen row, (rows, labels) float32."""


class SingleLabel:
    """Exactly one label for each row: cross-entropy, softmax."""

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        targets = torch.from_numpy(rows.targets[chosen]).to(device)
        return cross_entropy(_logits(model, rows, chosen, device), targets, reduction="none")

    def probabilities(
        self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device
    ) -> torch.Tensor:
        return _logits(model, rows, chosen, device).softmax(-1)


def _logits(model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
    tokens, mask = rows.texts.padded(chosen)
    with half_precision(device):
        output = model(input_ids=tokens.to(device), attention_mask=mask.to(device))
    logits: torch.Tensor = output.logits.float()
    return logits


def half_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return the context of bf16 arithmetic on a GPU; a CPU keeps fp32, which is as fast on most."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
