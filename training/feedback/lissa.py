"""LiSSA: the inverse of a loss's Hessian times a vector, by a recursion over mini-batches (1602.03943)."""

import math
from collections.abc import Iterator

import numpy as np
import torch

from cluster.errors import SettingsError
from training.dataset import Indices
from training.feedback.differentials import Direction, LossSurface
from training.feedback.settings import InfluenceSettings

_STEPS, _LARGEST = 1000, 128
_GROWTH = 10.0


def inverse_curvature(
    surface: LossSurface, rows: Indices, vector: Direction, settings: InfluenceSettings, seed: int
) -> dict[str, torch.Tensor]:
    """Return (H + damping * hessian_scale * I)^-1 vector, H the Hessian of the mean loss of rows.

    Each step is s <- vector + (1 - damping) s - H_batch s / hessian_scale, from s = vector; the last s over
    hessian_scale is the estimate, averaged over the runs (ProGen's published code). H holds the Hessian of
    weight_decay * |w|^2 too, which is 2 * weight_decay, for parameters of two or more dimensions: biases
    and normalisation do not decay. Before `depth` * damping is some 5 the estimate is still on its way: it
    is too short, but points the same way where the Hessian is small beside the damping.
    SettingsError when the recursion grows without bound, as it does when hessian_scale is below half of the
    Hessian's largest eigenvalue.
    """
    total = {name: torch.zeros_like(value) for name, value in vector.items()}
    for run in range(settings.runs):
        estimate, steps = {name: value.clone() for name, value in vector.items()}, 0
        for batch in recursion_batches(rows, settings, seed, run):
            estimate = _step(surface, batch, vector, estimate, settings)
            steps += 1
        _check(vector, estimate, steps, settings)
        for name, value in estimate.items():
            total[name] += value / (settings.hessian_scale * settings.runs)
    return total


def recursion_batches(rows: Indices, settings: InfluenceSettings, seed: int, run: int) -> Iterator[Indices]:
    """Yield the rows of each step: shuffled, and gone through again when `depth` asks for more."""
    size = settings.batch_size or min(max(len(rows) // _STEPS, 1), _LARGEST)
    left = settings.depth or min(_STEPS, math.ceil(len(rows) / size))
    random = np.random.default_rng([seed, run])
    while left:
        order = random.permutation(rows)
        for start in range(0, len(order), size)[:left]:
            yield order[start : start + size]
            left -= 1


def _step(
    surface: LossSurface,
    batch: Indices,
    vector: Direction,
    estimate: Direction,
    settings: InfluenceSettings,
) -> dict[str, torch.Tensor]:
    curved = surface.curvature(batch, estimate)
    moved = {}
    for name, value in estimate.items():
        decay = 2 * settings.weight_decay if value.ndim > 1 else 0.0
        bent = (curved[name] + decay * value) / settings.hessian_scale
        moved[name] = vector[name] + (1 - settings.damping) * value - bent
    return moved


def _check(vector: Direction, estimate: Direction, steps: int, settings: InfluenceSettings) -> None:
    """Refuse an estimate that is longer than so many steps can make it where the loss curves upwards."""
    if not length(estimate) <= _GROWTH * (steps + 1) * length(vector):
        raise SettingsError(
            f"influence: the estimate grows without bound with hessian_scale: {settings.hessian_scale:g}; "
            f"set it to {10 * settings.hessian_scale:g}, or set a larger damping"
        )


def length(direction: Direction) -> float:
    """Return the Euclidean length of a direction."""
    return math.sqrt(sum(float(value.double().square().sum()) for value in direction.values()))
