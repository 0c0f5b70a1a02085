"""What a teacher is taught: the tokens of replies, each predicted from what comes before it in its lesson."""

import inspect
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from cluster.errors import ModelError
from training.dataset import Indices, Texts, TrainingRows
from training.tuning.packing import IGNORED, Batch, Windows

_TOLERANCE = 0.05
"""bf16 differs by a percent at most when a text is computed elsewhere in a window; a leak by far more."""


class Replies:
    """Mean cross-entropy of the reply tokens of each window; a row's weight is how many it has."""

    def __init__(self, windows: Windows, model: Any) -> None:
        bare = model.get_base_model() if hasattr(model, "get_base_model") else model
        parameters = inspect.signature(bare.forward).parameters
        self._windows = windows
        self._taught = windows.taught().astype(np.float32)
        self._partly = "logits_to_keep" in parameters
        self._placed = "position_ids" in parameters
        # FlashAttention finds the lessons of a window by their positions in a batch of one row only.
        self._flat = "flash" in str(getattr(bare.config, "_attn_implementation", ""))
        if windows.shared and (not self._placed or getattr(bare, "_is_stateful", False)):
            raise ModelError(_mixes(type(bare).__name__))

    def rows(self) -> TrainingRows:
        """Return the windows as the loop knows them."""
        return TrainingRows(self._windows, np.zeros(len(self._windows), dtype=np.int64), self._taught)

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the mean loss of each chosen window, (windows,) float32, with gradients."""
        batch = self._windows.batch(chosen, self._flat)
        # Of most tokens of a prompt the logits, one for each word of the vocabulary, are not needed.
        columns = (batch.targets != IGNORED).any(0).nonzero()[:, 0]
        logits = self._logits(model, batch, columns, device).flatten(0, 1).float()
        targets = batch.targets[:, columns].to(device).flatten()
        each = cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")
        owners = batch.owners[:, columns].to(device).flatten()
        sums = torch.zeros(len(chosen), device=device).index_add(0, owners, each)
        return sums / torch.from_numpy(self._taught[chosen]).to(device)

    def probabilities(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Lessons have no labels."""
        raise NotImplementedError("a teacher gives no probabilities of labels")

    def check_apart(self, model: Any, forward: Any, device: torch.device) -> None:
        """Raise ModelError when the forward pass of a model lets a lesson see another one of its window.

        The last token of a window of several lessons must have the logits that it has in a window of its own.
        """
        if not self._windows.shared:
            return
        window = int((np.diff(self._windows.bounds) > 1).argmax())
        last = int(self._windows.order[self._windows.bounds[window + 1] - 1])
        alone = Windows(self._windows.lessons, np.array([last]), np.array([0, 1]), self._windows.pad_id)
        model.eval()
        with torch.no_grad():
            batches = self._windows.batch(np.array([window])), alone.batch(np.array([0]))
            ends = (torch.tensor([batch.tokens.shape[1] - 1]) for batch in batches)
            packed, single = (
                self._logits(forward, batch, end, device).float()
                for batch, end in zip(batches, ends, strict=True)
            )
        if bool((packed - single).norm() > _TOLERANCE * single.norm()):
            raise ModelError(_mixes(type(model).__name__))

    def _logits(self, model: Any, batch: Batch, columns: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Return the logits at some columns, (rows, columns, words)."""
        wanted: dict[str, Any] = {"logits_to_keep": columns.to(device)} if self._partly else {}
        if self._placed:
            wanted["position_ids"] = batch.positions.to(device)
        output = model(input_ids=batch.tokens.to(device), use_cache=False, **wanted)
        logits: torch.Tensor = output.logits if self._partly else output.logits[:, columns.to(device)]
        return logits


def _mixes(kind: str) -> str:
    return f"tune.packing: {kind} cannot keep the lessons of a window apart; set tune.packing to false"
