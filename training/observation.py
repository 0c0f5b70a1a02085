"""What a model makes of its rows after an epoch: training dynamics, and the loss of rows held out."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.distributed as dist

from training.dataset import Indices, sorted_batches
from training.objectives import of_the_gold
from training.strategy import Place

if TYPE_CHECKING:
    from training.state import Training


@dataclass(frozen=True, slots=True)
class Observation:
    """Of the trained rows, the probability of what is gold and correctness; of those held out, means."""

    probabilities: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    validation_loss: float | None = None
    validation_accuracy: float | None = None


@torch.no_grad()
def observe(training: "Training") -> Observation:
    """Look at every row with the model as it is now; every worker calls it and takes its share of rows."""
    training.model.eval()
    probabilities, correct = _answers(training, training.trained) if training.dynamics else (None, None)
    if not len(training.held):
        return Observation(probabilities, correct)
    weights = training.weights_of(training.held)
    losses = _losses(training, training.held).numpy()
    right = _answers(training, training.held)[1] if training.dynamics else None
    return Observation(
        probabilities,
        correct,
        float((losses * weights).sum() / (weights.sum() or 1.0)),
        None if right is None else float(right.float().mean()),
    )


def _answers(training: "Training", chosen: Indices) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the probability of what is gold, and the correctness, of some rows."""
    rows, place = training.rows, training.place
    seen = torch.zeros(2, len(rows), device=place.device)
    for batch in _own_batches(training, chosen):
        answers = training.objective.probabilities(training.strategy.module, rows.texts, batch, place.device)
        where = torch.from_numpy(batch).to(place.device)
        gold, right = of_the_gold(answers, rows.targets[batch])
        seen[0, where], seen[1, where] = gold, right.float()
    _join(seen, place)
    found = seen.cpu()[:, torch.from_numpy(chosen)]
    return found[0].clone(), found[1].bool()


def _losses(training: "Training", chosen: Indices) -> torch.Tensor:
    """Return the loss of some rows, float32 on the CPU."""
    rows, place = training.rows, training.place
    seen = torch.zeros(len(rows), device=place.device)
    for batch in _own_batches(training, chosen):
        losses = training.objective.losses(training.strategy.module, rows, batch, place.device)
        seen[torch.from_numpy(batch).to(place.device)] = losses
    _join(seen, place)
    return seen.cpu()[torch.from_numpy(chosen)]


def _own_batches(training: "Training", chosen: Indices) -> list[Indices]:
    """Return batches of this worker's share of rows; as many for every worker, as ZeRO-3 asks of them."""
    place, settings = training.place, training.settings
    # The shares are as long as one another: the first rows come again in the last workers' shares.
    share = np.resize(chosen, -(-len(chosen) // place.world) * place.world)[place.rank :: place.world]
    most = settings.micro_batch or -(-settings.batch_size // place.world)
    return list(sorted_batches(training.rows.texts, share, 2 * most))


def _join(seen: torch.Tensor, place: Place) -> None:
    """Take each row's value from the worker that saw it: no value is negative, and unseen ones are 0."""
    if place.world > 1:
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)


def sum_over_workers(values: torch.Tensor, place: Place) -> None:
    """Add values up over the workers, in place."""
    if place.world > 1:
        dist.all_reduce(values)
