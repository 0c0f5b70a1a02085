"""What an encoder is taught: the loss of each row, and the probabilities it gives to the labels."""

from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from training.dataset import Indices, Targets, Texts, TrainingRows


class Objective(Protocol):
    """Turns rows into losses and probabilities; the loop knows of neither labels nor logits.

    The caller chooses the arithmetic, for instance with `half_precision`; what is returned is float32.
    """

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the loss of each chosen row, (rows,) float32, with gradients; weights are not in it."""

    def probabilities(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the probability of every label for each chosen text, (texts, labels) float32."""


class SingleLabel:
    """Exactly one label for each row: cross-entropy, softmax."""

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        targets = torch.from_numpy(rows.targets[chosen]).to(device)
        return cross_entropy(_logits(model, rows.texts, chosen, device), targets, reduction="none")

    def probabilities(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        return _logits(model, texts, chosen, device).softmax(-1)


class MultiLabel:
    """Any number of labels for each row: binary cross-entropy, averaged over the labels; sigmoid.

    The mean, not the sum, keeps a preset's learning rate right for two labels and for two hundred.
    """

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        targets = torch.from_numpy(rows.targets[chosen]).to(device)
        logits = _logits(model, rows.texts, chosen, device)
        return binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)

    def probabilities(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        return _logits(model, texts, chosen, device).sigmoid()


def of_the_gold(probabilities: torch.Tensor, targets: Targets) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (probability of what is gold, correctness) of rows, each (rows,), for training dynamics.

    With one label a row, that label's probability, and whether it is the largest (2009.10795 §2). With
    several, the mean over all labels of the probability given to what is gold, that the label holds or that
    it does not; and whether all of them are right at 0.5.
    """
    gold = torch.from_numpy(np.ascontiguousarray(targets)).to(probabilities.device)
    if gold.ndim == 1:
        return probabilities.gather(1, gold[:, None])[:, 0], probabilities.argmax(-1) == gold
    holds = gold > 0.5
    right = torch.where(holds, probabilities, 1 - probabilities)
    return right.mean(-1), ((probabilities > 0.5) == holds).all(-1)


def _logits(model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
    tokens, mask = texts.padded(chosen)
    output = model(input_ids=tokens.to(device), attention_mask=mask.to(device))
    logits: torch.Tensor = output.logits.float()
    return logits


def half_precision(device: torch.device) -> AbstractContextManager[None]:
    """Return the context of bf16 arithmetic on a GPU; a CPU keeps fp32, which is as fast on most."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
