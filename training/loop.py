"""The training loop of a student: plain torch, on one process or on several joined by torch.distributed."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from cluster.errors import RunError
from training.dataset import Indices, TrainingRows, shuffled_batches, sorted_batches
from training.objectives import Objective, SingleLabel
from training.settings import StudentSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training process runs: its rank among all, and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1


@dataclass(slots=True)
class History:
    """What each finished epoch left: mean loss, and per row the probability of its label and correctness."""

    losses: list[float] = field(default_factory=list)
    probabilities: list[torch.Tensor] = field(default_factory=list)
    correct: list[torch.Tensor] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.losses)


class Training:
    """A model with its optimiser, schedule and history; everything a checkpoint holds."""

    def __init__(
        self,
        model: Any,
        rows: TrainingRows,
        settings: StudentSettings,
        place: Place,
        objective: Objective | None = None,
    ) -> None:
        self.objective = objective or SingleLabel()
        self.model = model.to(place.device)
        self.rows = rows
        self.settings = settings
        self.place = place
        self.history = History()
        self.steps_per_epoch = math.ceil(len(rows) / settings.batch_size)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            eps=settings.adam_epsilon,
            fused=True,
        )
        total = self.steps_per_epoch * settings.epochs
        warmup = round(settings.warmup_ratio * total)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: _linear(step, warmup, total)
        )

    def state(self) -> dict[str, Any]:
        """Return what `resume` needs, as tensors and plain values."""
        history = self.history
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "losses": history.losses,
            "probabilities": history.probabilities,
            "correct": history.correct,
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from the state of an earlier process."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.history = History(state["losses"], state["probabilities"], state["correct"])


def fit(training: Training, after_epoch: Callable[[Training], None]) -> History:
    """Train the epochs that are not done yet, calling after_epoch after each; return the whole history.

    Every process of the group calls it with the same rows; a batch is shared out between them, so that the
    result does not depend on their number but for rounding. RunError when the loss is not finite.
    """
    settings, place = training.settings, training.place
    model: Any = training.model
    if place.world > 1:
        model = DistributedDataParallel(training.model)
    for epoch in range(training.history.epochs, settings.epochs):
        # Seeded anew for each epoch: a resumed run then draws what an unbroken one would have drawn.
        torch.manual_seed((settings.seed * 1_000_003 + epoch) * 4_099 + place.rank)
        loss = _train_epoch(training, model, epoch)
        if not math.isfinite(loss):
            raise RunError(
                f"student {settings.name}: the loss of epoch {epoch + 1} is {loss}; "
                f"lower learning_rate (now {settings.learning_rate:g})"
            )
        probabilities, correct = _observe(training)
        training.history.losses.append(loss)
        training.history.probabilities.append(probabilities)
        training.history.correct.append(correct)
        after_epoch(training)
    return training.history


def _train_epoch(training: Training, model: Any, epoch: int) -> float:
    """Take one pass over the rows and return their mean loss."""
    settings, place, rows = training.settings, training.place, training.rows
    training.model.train()
    total = torch.zeros((), device=place.device)
    for batch in shuffled_batches(rows.texts, settings.batch_size, settings.seed, epoch):
        loss = _share_of_loss(training, model, batch)
        # Gradients are averaged over the workers, and a worker's share may be smaller than another's.
        (loss * place.world / len(batch)).backward()
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), settings.gradient_norm)
        training.optimizer.step()
        training.schedule.step()
        training.optimizer.zero_grad()
        total += loss.detach()
    _sum_over_workers(total, place)
    return total.item() / len(rows)


def _share_of_loss(training: Training, model: Any, batch: Indices) -> torch.Tensor:
    """Return the summed loss of this worker's rows of a batch."""
    place = training.place
    share = batch[place.rank :: place.world]
    # A worker without a row in the last batch must still take part in the exchange of gradients.
    chosen = share if len(share) else batch[:1]
    loss = training.objective.losses(model, training.rows, chosen, place.device).sum()
    return loss if len(share) else loss * 0.0


@torch.no_grad()
def _observe(training: Training) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the probability of its label and the correctness of every row, as the model sees them now."""
    rows, place = training.rows, training.place
    training.model.eval()
    seen = torch.zeros(2, len(rows), device=place.device)
    own = np.arange(place.rank, len(rows), place.world)
    for batch in sorted_batches(rows.texts, own, 2 * training.settings.batch_size):
        probabilities = training.objective.probabilities(training.model, rows, batch, place.device)
        targets = torch.from_numpy(rows.targets[batch]).to(place.device)
        where = torch.from_numpy(batch).to(place.device)
        seen[0, where] = probabilities.gather(1, targets[:, None])[:, 0]
        seen[1, where] = (probabilities.argmax(-1) == targets).float()
    _sum_over_workers(seen, place)
    return seen[0].cpu().clone(), seen[1].bool().cpu()


def _linear(step: int, warmup: int, total: int) -> float:
    """Return the share of the peak learning rate: a rise over the warm-up, then a fall to zero."""
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def _sum_over_workers(values: torch.Tensor, place: Place) -> None:
    if place.world > 1:
        dist.all_reduce(values)
