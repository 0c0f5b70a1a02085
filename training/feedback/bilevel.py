"""Weights learned at two levels: a model learns from weighted rows, and the weights from what it learned.

SunGen (2205.12679). It takes any small model and any losses of rows; texts and labels are for the caller.
"""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields

import torch
from safetensors.torch import load, save

from cluster.errors import NothingLearned, RunError
from training.dataset import Indices
from training.feedback.settings import Normaliser, WeightSettings

RowLosses = Callable[[torch.nn.Module, Indices], torch.Tensor]
"""Losses of some rows under a model, (rows,), with gradients."""

LEAST_WEIGHT = 0.01
"""Weights that are all below it, a fiftieth of what each began with, tell nothing any more."""

_BETA_MEAN, _BETA_SQUARE, _EPSILON = 0.9, 0.999, 1e-8
"""Adam's own defaults, which SunGen's published code keeps."""


class WeightsVanished(NothingLearned):
    """No row has a weight left, or weights are not numbers."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is weighed: a model at its start, and the losses of n rows under it, which are numbered.

    The model draws nothing: with dropout its losses would differ from pass to pass.
    """

    model: torch.nn.Module
    rows: int
    inner: RowLosses
    """What the model learns by: cross-entropy."""
    outer: RowLosses
    """What the weights learn by: a loss that noise cannot bend, such as reverse cross-entropy."""
    training: Callable[[int], Iterable[Indices]]
    """Returns the batches of the model's training in an outer iteration."""
    passes: Callable[[Indices], Iterable[Indices]]
    """Cuts rows into batches that fit into memory; results do not depend on it but for rounding."""
    validation: Indices
    """Rows whose outer loss counts."""


@dataclass(frozen=True, slots=True)
class State:
    """Where the outer loop is: theta, whose sigmoid is the weights, and Adam's moments; (rows,) float64."""

    theta: torch.Tensor
    mean: torch.Tensor
    square: torch.Tensor
    iteration: int = 0
    """Outer iterations done."""

    @property
    def weights(self) -> torch.Tensor:
        """Weight of each row, 0 to 1."""
        return self.theta.sigmoid()

    def packed(self) -> bytes:
        """Return the state as safetensors."""
        return save({each.name: torch.as_tensor(getattr(self, each.name)) for each in fields(self)})

    @classmethod
    def unpacked(cls, data: bytes) -> "State":
        """Return the state that `packed` wrote."""
        kept = load(data)
        return cls(kept["theta"], kept["mean"], kept["square"], int(kept["iteration"]))


def first_state(rows: int) -> State:
    """Return the state in which all rows weigh 0.5."""
    return State(*(torch.zeros(rows, dtype=torch.float64) for _ in range(3)))


def outer_step(problem: Problem, state: State, settings: WeightSettings) -> State:
    """Train the model with the weights as they are, and move these one step of Adam.

    Errors: RunError when the model's loss is not finite, WeightsVanished.
    """
    weights = state.weights
    model = trained(problem, weights, state.iteration, settings)
    # By the chain rule, through the sigmoid.
    gradient = hypergradient(problem, model, weights, settings) * weights * (1 - weights)
    after = _adam(state, _clipped(gradient, settings.gradient_norm), settings.outer_learning_rate)
    _check(after)
    return after


def trained(
    problem: Problem, weights: torch.Tensor, iteration: int, settings: WeightSettings
) -> torch.nn.Module:
    """Return the model after its training, from the same start each time, on mean(weight * loss)."""
    model = deepcopy(problem.model).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    device = _device(model)
    weights = weights.to(device, _kind(model))
    total = torch.zeros((), device=device)
    for batch in problem.training(iteration):
        optimiser.zero_grad()
        loss = (problem.inner(model, batch) * weights[torch.from_numpy(batch).to(device)]).mean()
        loss.backward()
        optimiser.step()
        total += loss.detach()
    if not bool(torch.isfinite(total)):
        raise RunError(
            f"weights: the loss of iteration {iteration + 1} is not finite; "
            f"lower feedback.weights.learning_rate (now {settings.learning_rate:g})"
        )
    return model


def hypergradient(
    problem: Problem, model: torch.nn.Module, weights: torch.Tensor, settings: WeightSettings
) -> torch.Tensor:
    """Return the derivative of the outer loss by each weight, (rows,) float64.

    It is that of one step of gradient descent from the trained model on the weighted inner loss of all rows:
    with v_j the derivative of row j's inner loss along the gradient of the outer loss, -learning_rate * v_j
    over what the weighted loss is divided by.
    """
    direction = outer_gradient(problem, model, weights, settings)
    along = derivatives_along(problem, model, direction)
    return -settings.learning_rate * _by_weight(along, weights, settings.normaliser)


def outer_gradient(
    problem: Problem, model: torch.nn.Module, weights: torch.Tensor, settings: WeightSettings
) -> list[torch.Tensor]:
    """Return the gradient of the outer loss by each parameter.

    The loss is added up over the validation rows that are among those of highest weight, and divided by the
    rows of a batch, which is the size that the published code's sum over its batches has: Adam's epsilon
    sees the size, and little else does.
    """
    rows = problem.validation
    chosen = rows[_heaviest(weights, settings.outer_share)[torch.from_numpy(rows)].numpy()]
    parameters = list(model.parameters())
    total = [torch.zeros_like(each) for each in parameters]
    for batch in problem.passes(chosen if len(chosen) else rows):
        loss = problem.outer(model, batch).sum() / settings.batch_size
        for whole, part in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            whole += part
    return total


def derivatives_along(
    problem: Problem, model: torch.nn.Module, direction: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Return the derivative of each row's inner loss along a direction of the parameters, (rows,) float64.

    Of a batch with losses l_j, the gradient of sum(u_j * l_j) is linear in u, and so is its product with the
    direction, whose derivative by u_j is what is sought: two backward passes for all rows of the batch.
    """
    parameters = list(model.parameters())
    found = torch.zeros(problem.rows, dtype=torch.float64)
    # Recurrent layers on a GPU can be differentiated twice only without cuDNN.
    with torch.backends.cudnn.flags(enabled=False):
        for batch in problem.passes(torch.arange(problem.rows).numpy()):
            losses = problem.inner(model, batch)
            ones = torch.ones_like(losses, requires_grad=True)
            gradients = torch.autograd.grad((ones * losses).sum(), parameters, create_graph=True)
            product = torch.stack(
                [(slope * way).sum() for slope, way in zip(gradients, direction, strict=True)]
            ).sum()
            (along,) = torch.autograd.grad(product, ones)
            found[torch.from_numpy(batch)] = along.double().cpu()
    return found


def _by_weight(along: torch.Tensor, weights: torch.Tensor, normaliser: Normaliser) -> torch.Tensor:
    """Return the derivative, by each weight, of the weighted inner loss along the direction."""
    if normaliser == "rows":
        return along / len(along)
    whole = weights.sum()
    if normaliser == "fixed_weights":
        return along / whole
    return (along - (weights * along).sum() / whole) / whole


def _heaviest(weights: torch.Tensor, share: float) -> torch.Tensor:
    """Mark the share of rows of highest weight, and those that weigh as much as the last of them."""
    count = max(1, int(share * len(weights)))
    return weights >= weights.topk(count).values[-1]


def _clipped(gradient: torch.Tensor, longest: float) -> torch.Tensor:
    length = gradient.norm()
    return gradient * (longest / length) if length > longest else gradient


def _adam(state: State, gradient: torch.Tensor, learning_rate: float) -> State:
    done = state.iteration + 1
    mean = _BETA_MEAN * state.mean + (1 - _BETA_MEAN) * gradient
    square = _BETA_SQUARE * state.square + (1 - _BETA_SQUARE) * gradient**2
    root = (square / (1 - _BETA_SQUARE**done)).sqrt() + _EPSILON
    theta = state.theta - learning_rate * mean / (1 - _BETA_MEAN**done) / root
    return State(theta, mean, square, done)


def _check(state: State) -> None:
    remedy = "lower feedback.weights.outer_learning_rate, or raise feedback.weights.least_steps"
    if not bool(torch.isfinite(state.theta).all()):
        raise WeightsVanished(f"weights: not finite after iteration {state.iteration}; {remedy}")
    if bool((state.weights < LEAST_WEIGHT).all()):
        raise WeightsVanished(
            f"weights: all are below {LEAST_WEIGHT:g} after iteration {state.iteration}, "
            f"as if no row could be trusted; {remedy}"
        )


def _device(model: torch.nn.Module) -> torch.device:
    return next(model.parameters()).device


def _kind(model: torch.nn.Module) -> torch.dtype:
    return next(model.parameters()).dtype
