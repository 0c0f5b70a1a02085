"""How a model's steps are taken: by plain torch on one or several processes, or by DeepSpeed."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from cluster.errors import SettingsError
from training.optimisation import OptimisationSettings, ZeroStage

_REMEDY = "pip install 'nightshift[deepspeed]' on every node, or set zero: 0"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a training process runs: its rank among all, and its device."""

    device: torch.device
    rank: int = 0
    world: int = 1


class Strategy(Protocol):
    """A model with its optimiser and schedule; every process of the group makes the same calls in order."""

    name: str
    """What it is, in words of a report."""
    module: Callable[..., Any]
    """The forward pass, in the precision of the settings."""

    def part(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of one forward and backward pass; a step's last exchanges the gradients."""

    def backward(self, loss: torch.Tensor) -> None:
        """Add the gradients of a loss; over the workers they are averaged."""

    def step(self) -> None:
        """Cut the gradients, move the weights, advance the learning rate, and clear the gradients."""

    def save(self, folder: Path) -> None:
        """Write this process's share of weights and moments, in files named by its rank."""

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote, with whatever strategy and on however many processes."""

    def weights(self) -> dict[str, torch.Tensor] | None:
        """Return the whole state dict on the CPU to rank 0, and None to the others."""


def begin(model: Any, settings: OptimisationSettings, steps: int, place: Place) -> Strategy:
    """Return the strategy that the settings ask for; `steps` is the length of the schedule.

    The model is moved to the place's device. Errors: SettingsError when DeepSpeed is asked for and lacking.
    """
    if stage := zero_stage(settings, place):
        from training.zero import ZeroStrategy

        return ZeroStrategy(model, settings, steps, place, stage)
    from training.strategy_torch import TorchStrategy

    return TorchStrategy(model, settings, steps, place)


def zero_stage(settings: OptimisationSettings, place: Place) -> ZeroStage:
    """Return the ZeRO stage that a training takes, 0 for plain torch."""
    asked = settings.zero is not None or settings.offload != "none"
    if settings.zero == 0 or not (asked or (place.world > 1 and place.device.type == "cuda")):
        return 0
    if find_spec("deepspeed") is None:
        if asked:
            raise SettingsError(f"zero: DeepSpeed is not installed; {_REMEDY}")
        if place.rank == 0:
            _log.warning("DeepSpeed is not installed: every GPU keeps the whole optimiser state; %s", _REMEDY)
        return 0
    if settings.zero is not None:
        return settings.zero
    return 3 if settings.offload == "all" else settings.zero_by_default


def in_precision(forward: Callable[..., Any], settings: OptimisationSettings, place: Place) -> Any:
    """Return a forward pass that runs in the arithmetic of the settings."""
    if not half(settings, place):
        return forward

    def run(*arguments: Any, **named: Any) -> Any:
        with torch.autocast(place.device.type, dtype=torch.bfloat16):
            return forward(*arguments, **named)

    return run


def half(settings: OptimisationSettings, place: Place) -> bool:
    """Say whether forward passes run in bf16; weights and moments stay float32."""
    if settings.precision == "auto":
        return place.device.type == "cuda"
    return settings.precision == "bf16"
