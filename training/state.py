"""A training in progress: model, strategy, place in the epoch, and history; all that a checkpoint holds."""

import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from cluster.errors import ModelError, RunError
from training.dataset import Indices, TrainingRows
from training.objectives import Objective, SingleLabel
from training.observation import Observation, sum_over_workers
from training.optimisation import OptimisationSettings
from training.strategy import Place, begin

STATE, _BEST = "training.pt", "best.safetensors"


@dataclass(slots=True)
class History:
    """What each finished epoch left; lists of rows are of those trained on, in their order."""

    losses: list[float] = field(default_factory=list)
    """Mean training loss, by the weights of the rows, while the epoch went on."""
    probabilities: list[torch.Tensor] = field(default_factory=list)
    """Probability of what is gold for each row after the epoch, (rows,) float32."""
    correct: list[torch.Tensor] = field(default_factory=list)
    """Whether each row was right after the epoch, (rows,) bool."""
    validation_losses: list[float] = field(default_factory=list)
    validation_accuracies: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.losses)

    @property
    def best(self) -> int:
        """Epoch of the lowest validation loss, from 0; the last one when nothing was held out."""
        return int(np.argmin(self.validation_losses)) if self.validation_losses else self.epochs - 1


class Training:
    """What `fit` trains. `name` heads messages; `held` are the rows held out; without `dynamics` nothing is
    observed but losses, as objectives need that know no labels; `fingerprint` tells its checkpoints apart.
    """

    def __init__(
        self,
        model: Any,
        rows: TrainingRows,
        settings: OptimisationSettings,
        place: Place,
        objective: Objective | None = None,
        *,
        name: str = "training",
        held: Indices | None = None,
        dynamics: bool = True,
        fingerprint: str = "",
    ) -> None:
        self.model, self.rows, self.settings, self.place = model, rows, settings, place
        self.objective = objective or SingleLabel()
        self.name, self.dynamics, self.fingerprint = name, dynamics, fingerprint
        self.held = np.empty(0, dtype=np.int64) if held is None else held
        self.trained: Indices = np.setdiff1d(np.arange(len(rows)), self.held)
        self.steps_per_epoch = math.ceil(len(self.trained) / settings.batch_size)
        if settings.gradient_checkpointing:
            self._checkpoint_gradients()
        self.strategy = begin(model, settings, self.steps_per_epoch * settings.epochs, place)
        self.history = History()
        self.step = 0
        """Steps taken in the epoch that goes on."""
        self.step_losses = torch.zeros(self.steps_per_epoch, device=place.device)
        """Summed, weighted loss of each step of it; of those up to `_looked` over all workers."""
        self._looked = 0
        self._best: dict[str, torch.Tensor] | None = None

    def _checkpoint_gradients(self) -> None:
        try:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        except ValueError as error:
            kind = type(self.model).__name__
            raise ModelError(
                f"{self.name}: {kind} cannot compute activations again; set gradient_checkpointing: false"
            ) from error

    @property
    def finished(self) -> bool:
        """Whether all epochs are trained, or the validation loss has not fallen for `patience` of them."""
        history, patience = self.history, self.settings.patience
        if patience is not None and history.epochs - 1 - history.best >= patience:
            return True
        return history.epochs == self.settings.epochs

    @property
    def steps_done(self) -> int:
        """Steps taken in all epochs."""
        return self.history.epochs * self.steps_per_epoch + self.step

    def weights_of(self, chosen: Indices) -> npt.NDArray[np.float32]:
        """Return the weights of some rows in the loss."""
        weights = self.rows.weights
        return np.ones(len(chosen), dtype=np.float32) if weights is None else weights[chosen]

    def check_losses(self) -> None:
        """Add up the losses of the last steps over the workers; RunError when one is not finite."""
        if self._looked == self.step:
            return
        seen = self.step_losses[self._looked : self.step]
        sum_over_workers(seen, self.place)
        wrong = (~torch.isfinite(seen)).nonzero()[:, 0].tolist()
        if wrong:
            step, loss = self._looked + wrong[0], seen[wrong[0]].item()
            raise RunError(
                f"{self.name}: the loss of step {step + 1} of epoch {self.history.epochs + 1} is {loss}; "
                f"lower learning_rate (now {self.settings.learning_rate:g})"
            )
        self._looked = self.step

    def close_epoch(self, seen: Observation) -> None:
        """Enter an epoch, whose losses are all checked, into the history. Every worker calls it."""
        history = self.history
        whole = float(self.weights_of(self.trained).sum()) or 1.0
        history.losses.append(self.step_losses.sum().item() / whole)
        if seen.probabilities is not None and seen.correct is not None:
            self._check_finite(bool(torch.isfinite(seen.probabilities).all()))
            history.probabilities.append(seen.probabilities)
            history.correct.append(seen.correct)
        if seen.validation_loss is not None:
            self._check_finite(math.isfinite(seen.validation_loss))
            history.validation_losses.append(seen.validation_loss)
        if seen.validation_accuracy is not None:
            history.validation_accuracies.append(seen.validation_accuracy)
        self.step = self._looked = 0
        self.step_losses.zero_()
        if self.settings.keep == "best" and history.best == history.epochs - 1:
            self._best = self.strategy.weights()

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the state dict to keep to rank 0, and None to the others; every worker calls it.

        RunError when it holds what is not finite.
        """
        best = self.settings.keep == "best"
        kept = self._best if best else self.strategy.weights()
        if kept is not None:
            self._check_finite(all(bool(torch.isfinite(value).all()) for value in kept.values()))
        return kept

    def _check_finite(self, finite: bool) -> None:
        if not finite:
            raise RunError(
                f"{self.name}: the weights are not finite after epoch {self.history.epochs}; "
                f"lower learning_rate (now {self.settings.learning_rate:g})"
            )

    def save(self, folder: Path) -> None:
        """Write a checkpoint; every worker calls it and leaves files of its own. Losses are checked first."""
        self.check_losses()
        self.strategy.save(folder)
        if self.place.rank:
            return
        state = {
            "fingerprint": self.fingerprint,
            "history": {kind.name: getattr(self.history, kind.name) for kind in fields(self.history)},
            "step": self.step,
            "step_losses": self.step_losses.cpu(),
        }
        torch.save(state, folder / STATE)
        if self._best is not None:
            save_file(self._best, folder / _BEST)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint, of however many workers; RunError when it is another training's."""
        state = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        if state["fingerprint"] != self.fingerprint or len(state["step_losses"]) != self.steps_per_epoch:
            raise RunError(f"{self.name}: the checkpoint in {folder} is of other rows, settings or model")
        self.history = History(**state["history"])
        self.step = self._looked = state["step"]
        self.step_losses.copy_(state["step_losses"])
        if self.place.rank == 0 and (folder / _BEST).is_file():
            self._best = load_file(folder / _BEST)
        self.strategy.load(folder)
