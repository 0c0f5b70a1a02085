"""The training loop: the same for every objective, strategy and number of processes."""

import math
from collections.abc import Callable

import numpy as np
import torch

from training.dataset import Indices, shuffled_batches
from training.observation import observe
from training.state import History, Training

_LOOK_EVERY = 20
"""Steps between two looks at their losses, each of which waits for the device."""


def fit(training: Training, after_step: Callable[[Training], None]) -> History:
    """Train what is not done yet, calling after_step after each step; return the whole history.

    Every process of the group calls it with the same rows; a batch is shared out between them, so that the
    result does not depend on their number but for rounding (and, with dropout, for what each draws). The
    epoch is closed before after_step sees its last step. RunError when a loss is not finite.
    """
    while not training.finished:
        _train_epoch(training, after_step)
    return training.history


def _train_epoch(training: Training, after_step: Callable[[Training], None]) -> None:
    """Take the steps of an epoch that are left."""
    batches = _batches(training)
    training.model.train()
    for batch in batches[training.step :]:
        # Seeded anew for each step: a resumed run then draws what an unbroken one would have drawn.
        torch.manual_seed(_seed(training))
        training.step_losses[training.step] = _take_step(training, batch)
        training.step += 1
        last = training.step == len(batches)
        if last or training.step % _LOOK_EVERY == 0:
            training.check_losses()
        if last:
            training.close_epoch(observe(training))
        after_step(training)


def _take_step(training: Training, batch: Indices) -> torch.Tensor:
    """Take an optimiser step on a batch; return the summed, weighted loss of this worker's rows."""
    strategy, place = training.strategy, training.place
    total = torch.zeros((), device=place.device)
    whole = training.weights_of(batch).sum() or 1.0
    parts = _parts(training, batch)
    for number, (chosen, weights) in enumerate(parts, 1):
        with strategy.part(last=number == len(parts)):
            losses = training.objective.losses(strategy.module, training.rows, chosen, place.device)
            loss = (losses * torch.from_numpy(weights).to(place.device)).sum()
            # Gradients are averaged over the workers, each of which has its share of the batch only.
            strategy.backward(loss * float(place.world / whole))
        total += loss.detach()
    strategy.step()
    return total


def _parts(training: Training, batch: Indices) -> list[tuple[Indices, np.ndarray]]:
    """Return the rows, with their weights, of each forward pass of this worker in a step.

    All workers make as many, as exchanging gradients or weights asks of them: one without a row left takes
    the first row of the batch, at no weight.
    """
    place = training.place
    share = batch[place.rank :: place.world]
    largest = math.ceil(len(batch) / place.world)
    size = min(training.settings.micro_batch or largest, largest)
    parts = [share[start : start + size] for start in range(0, largest, size)]
    return [
        (rows, training.weights_of(rows)) if len(rows) else (batch[:1], np.zeros(1, dtype=np.float32))
        for rows in parts
    ]


def _batches(training: Training) -> list[Indices]:
    """Return the rows of each step of the epoch to train now."""
    settings, epoch = training.settings, training.history.epochs
    return shuffled_batches(training.rows.texts, settings.batch_size, settings.seed, epoch, training.trained)


def _seed(training: Training) -> int:
    """Return the seed of what this worker draws in the step to take now."""
    place = (training.settings.seed, training.history.epochs, training.step, training.place.rank)
    return int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0] >> 1)
