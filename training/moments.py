"""AdamW, its schedule, and its state on disk: weights and moments by name, the same from every strategy."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from training.optimisation import OptimisationSettings

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps of every weight: the running means of its gradient and of the gradient's square."""


def adamw(model: Any, settings: OptimisationSettings) -> torch.optim.AdamW:
    """Return the optimiser of a model's trained weights."""
    return torch.optim.AdamW(
        [parameter for _, parameter in trained(model)],
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        eps=settings.adam_epsilon,
        fused=True,
    )


def trained(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield (name, weight) of what is trained; a tied weight comes once, a frozen one never."""
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad)


class Schedule:
    """The learning rate of each step: it rises over the warm-up, then falls to zero or stays."""

    def __init__(self, optimizer: Any, settings: OptimisationSettings, total: int) -> None:
        self.optimizer = optimizer
        self.settings = settings
        self.total = total
        self.warmup = round(settings.warmup_ratio * total)
        self.steps = 0
        """Steps taken."""

    def set_rate(self) -> None:
        """Set the rate of the step to be taken now, and count it."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self.share(self.steps)
        self.steps += 1

    def share(self, step: int) -> float:
        """Return the share of the peak rate at a step, counted from 0."""
        if step < self.warmup:
            return step / self.warmup
        left = max(0.0, (self.total - step) / max(1, self.total - self.warmup))
        if self.settings.schedule == "cosine":
            return (1 - math.cos(math.pi * left)) / 2
        return left if self.settings.schedule == "linear" else 1.0


def write_state(folder: Path, rank: int, tensors: dict[str, torch.Tensor], steps: int) -> None:
    """Write tensors named `weight/NAME` or `MOMENT/NAME`; each is written by one process of the group."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / f"state-{rank:05}.safetensors", metadata={"steps": str(steps)})


class SavedState:
    """The tensors of all files of a folder, read when they are asked for."""

    def __init__(self, folder: Path) -> None:
        files: list[Any] = [safe_open(path, "pt") for path in sorted(folder.glob("state-*.safetensors"))]
        self._files = {name: file for file in files for name in file.keys()}  # noqa: SIM118 (no mapping)
        self.steps = int(files[0].metadata()["steps"])
        """Steps taken."""

    def has(self, kind: str, name: str) -> bool:
        """Say whether there is a weight, or a moment, of this name."""
        return f"{kind}/{name}" in self._files

    def of(self, kind: str, name: str) -> torch.Tensor:
        """Return a weight, or a moment, on the CPU."""
        return self._files[f"{kind}/{name}"].get_tensor(f"{kind}/{name}")


def read_state(folder: Path) -> SavedState:
    """Return what the processes of a group wrote in a folder."""
    return SavedState(folder)
