"""Derivatives of rows' losses by a module's parameters: mean gradient, curvature, and slope of every row."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, jvp

from training.dataset import Indices

Direction = Mapping[str, torch.Tensor]
"""A direction in the space of some parameters: name to a tensor of the parameter's shape."""
RowLosses = Callable[[Any, Indices], torch.Tensor]
"""From (module, row numbers) to the loss of each row, (rows,), with gradients."""
Parts = Callable[[Indices], Sequence[Indices]]
"""Cuts row numbers into passes that fit into memory: positions in what it is given."""


def in_one(rows: Indices) -> Sequence[Indices]:
    """Take all rows in one pass."""
    return [np.arange(len(rows))]


@dataclass(frozen=True, slots=True)
class LossSurface:
    """The losses of rows as a function of some parameters of a module; the others stay what they are.

    What is asked of it draws nothing: the module is to be in evaluation mode.
    """

    module: torch.nn.Module
    losses: RowLosses
    names: tuple[str, ...]
    """Parameters that take part; set before, that only they require gradients, saves memory."""
    parts: Parts = in_one

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The parameters that take part, in the order of `names`."""
        found = dict(self.module.named_parameters())
        return {name: found[name] for name in self.names}

    def gradient(self, rows: Indices) -> dict[str, torch.Tensor]:
        """Return the gradient of the mean loss of rows."""
        weights = self.weights
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for part in self.parts(rows):
            loss = self.losses(self.module, rows[part]).sum() / len(rows)
            _add(total, _gradients(loss, weights))
        return total

    def curvature(self, rows: Indices, direction: Direction) -> dict[str, torch.Tensor]:
        """Return the product of the mean loss's Hessian with a direction, by double backward."""
        weights = self.weights
        total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
        for part in self.parts(rows):
            loss = self.losses(self.module, rows[part]).sum() / len(rows)
            gradients = _gradients(loss, weights, again=True)
            _add(total, _gradients(_inner(gradients, direction), weights))
        return total

    def slopes(self, rows: Indices, direction: Direction, forward: bool = True) -> torch.Tensor:
        """Return the product of every row's gradient with a direction, (rows,), in the order of rows.

        It is the row's derivative along the direction. Forward mode carries the direction through one forward
        pass, which gives all rows at once; double backward (`forward=False`) costs twice as much and wants
        only operations that can be differentiated twice.
        """
        along = self._forward if forward else self._backward
        parts = self.parts(rows)
        found = torch.cat([along(rows[part], direction) for part in parts])
        values = torch.empty_like(found)
        values[torch.from_numpy(np.concatenate(parts)).to(found.device)] = found
        return values

    def runs_forward(self, rows: Indices, direction: Direction) -> bool:
        """Say whether every operation of the losses has a forward derivative, tried on the first row."""
        try:
            self._forward(rows[:1], direction)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            # NotImplementedError is one. Whatever else is wrong comes up again in double backward.
            return False
        return True

    def _forward(self, rows: Indices, direction: Direction) -> torch.Tensor:
        bound = _Bound(self.module, self.losses)
        weights = {name: weight.detach() for name, weight in self.weights.items()}
        tangents = {name: direction[name] for name in weights}

        def losses(moved: Direction) -> torch.Tensor:
            placed = {f"module.{name}": weight for name, weight in moved.items()}
            return functional_call(bound, placed, (rows,))

        values: torch.Tensor = jvp(losses, (weights,), (tangents,))[1]
        return values

    def _backward(self, rows: Indices, direction: Direction) -> torch.Tensor:
        # The gradient of a weighted sum is linear in the weights; by one of them it is that row's gradient.
        losses = self.losses(self.module, rows)
        shares = torch.ones_like(losses.detach()).requires_grad_()
        gradients = _gradients((losses * shares).sum(), self.weights, again=True)
        values: torch.Tensor = torch.autograd.grad(_inner(gradients, direction), shares)[0]
        return values


class _Bound(torch.nn.Module):
    """A module whose forward pass is the losses, as `functional_call` wants it."""

    def __init__(self, module: torch.nn.Module, losses: RowLosses) -> None:
        super().__init__()
        self.module = module
        self.losses = losses

    def forward(self, rows: Indices) -> torch.Tensor:
        return self.losses(self.module, rows)


def _gradients(value: torch.Tensor, weights: Direction, again: bool = False) -> dict[str, torch.Tensor]:
    # A parameter may have no part in it, such as a pooler that the head does not read.
    found = torch.autograd.grad(value, list(weights.values()), create_graph=again, materialize_grads=True)
    return dict(zip(weights, found, strict=True))


def _inner(left: Direction, right: Direction) -> torch.Tensor:
    products = [(value * right[name]).sum() for name, value in left.items()]
    return torch.stack(products).sum()


def _add(total: dict[str, torch.Tensor], values: Direction) -> None:
    for name, value in values.items():
        total[name] += value
