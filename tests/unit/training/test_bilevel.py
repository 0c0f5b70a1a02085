"""Weights at two levels, on a small logistic regression in double precision."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from cluster.errors import RunError
from training.dataset import Indices
from training.feedback.bilevel import (
    Problem,
    State,
    WeightsVanished,
    derivatives_along,
    first_state,
    hypergradient,
    outer_gradient,
    outer_step,
)
from training.feedback.losses import reverse_cross_entropy
from training.feedback.settings import WeightSettings

ROWS, FEATURES, CLASSES = 12, 4, 3
NORMALISERS = ("rows", "weights", "fixed_weights")


def settings(**values: Any) -> WeightSettings:
    return WeightSettings.model_validate({"batch_size": 4, "outer_share": 1.0, "scale": 2.0} | values)


def problem(outer_sign: float = 1.0, pass_rows: int = 5, alike: bool = False) -> Problem:
    """Rows of random features and labels, or twelve times the same row."""
    random = torch.Generator().manual_seed(0)
    features = torch.randn(ROWS, FEATURES, generator=random, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (ROWS,), generator=random)
    if alike:
        features, targets = features[:1].expand(ROWS, -1), targets[:1].expand(ROWS)
    model = torch.nn.Linear(FEATURES, CLASSES).double()
    for value in model.parameters():
        torch.nn.init.normal_(value, generator=random)

    def inner(model: torch.nn.Module, chosen: Indices) -> torch.Tensor:
        rows = torch.from_numpy(chosen)
        return cross_entropy(model(features[rows]), targets[rows], reduction="none")

    def outer(model: torch.nn.Module, chosen: Indices) -> torch.Tensor:
        rows = torch.from_numpy(chosen)
        return outer_sign * reverse_cross_entropy(model(features[rows]), targets[rows], 2.0)

    def training(iteration: int) -> Iterable[Indices]:
        order = np.random.default_rng(iteration).permutation(ROWS)
        return np.split(order, 3)

    def passes(chosen: Indices) -> Iterable[Indices]:
        return [chosen[start : start + pass_rows] for start in range(0, len(chosen), pass_rows)]

    return Problem(model, ROWS, inner, outer, training, passes, np.arange(8))


def stepped(made: Problem, weights: torch.Tensor, values: WeightSettings, divisor: torch.Tensor) -> Any:
    """Return the model after one step on the weighted loss of all rows, computed in one go."""
    loss = (weights * made.inner(made.model, np.arange(ROWS))).sum()
    loss = loss / {"rows": torch.tensor(float(ROWS)), "weights": weights.sum()}.get(
        values.normaliser, divisor
    )
    gradients = torch.autograd.grad(loss, list(made.model.parameters()))
    after = torch.nn.Linear(FEATURES, CLASSES).double()
    for new, old, slope in zip(after.parameters(), made.model.parameters(), gradients, strict=True):
        new.data = (old - values.learning_rate * slope).detach()
    return after


def finite_differences(made: Problem, weights: torch.Tensor, values: WeightSettings) -> torch.Tensor:
    """Return the derivative, by each weight, of the outer loss after that step."""
    divisor = weights.sum()

    def outer(moved: torch.Tensor) -> float:
        after = stepped(made, moved, values, divisor)
        return float(made.outer(after, made.validation).detach().sum() / values.batch_size)

    found = torch.zeros(ROWS, dtype=torch.float64)
    for row in range(ROWS):
        nudge = torch.zeros(ROWS, dtype=torch.float64)
        nudge[row] = 1e-3
        found[row] = (outer(weights + nudge) - outer(weights - nudge)) / 2e-3
    return found


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_the_hypergradient_is_the_derivative_of_the_unrolled_step(normaliser: str) -> None:
    made, values = problem(), settings(normaliser=normaliser, learning_rate=1e-5)
    weights = torch.linspace(0.2, 0.9, ROWS, dtype=torch.float64)

    found = hypergradient(made, made.model, weights, values)

    expected = finite_differences(made, weights, values)
    assert (found - expected).norm() / expected.norm() < 1e-4


@pytest.mark.parametrize("normaliser", NORMALISERS)
def test_a_long_step_is_differentiated_exactly_where_the_outer_gradient_is_taken_after_it(
    normaliser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, values = problem(), settings(normaliser=normaliser, learning_rate=0.5)
    weights = torch.linspace(0.2, 0.9, ROWS, dtype=torch.float64)
    there = outer_gradient(made, stepped(made, weights, values, weights.sum()), weights, values)
    monkeypatch.setattr("training.feedback.bilevel.outer_gradient", lambda *_: there)

    found = hypergradient(made, made.model, weights, values)

    expected = finite_differences(made, weights, values)
    assert (found - expected).norm() / expected.norm() < 1e-4


def test_derivatives_along_a_direction_are_those_of_each_row_whatever_the_passes() -> None:
    made = problem()
    direction = [torch.randn_like(value) for value in made.model.parameters()]

    found = derivatives_along(made, made.model, direction)

    for row in range(ROWS):
        (loss,) = made.inner(made.model, np.array([row]))
        slopes = torch.autograd.grad(loss, list(made.model.parameters()))
        along = sum(float((slope * way).sum()) for slope, way in zip(slopes, direction, strict=True))
        assert found[row].item() == pytest.approx(along, rel=1e-12)
    assert torch.allclose(found, derivatives_along(problem(pass_rows=2), made.model, direction), rtol=1e-12)


def test_only_validation_rows_of_high_weight_judge() -> None:
    made = problem()
    weights = torch.full((ROWS,), 0.5, dtype=torch.float64)
    all_of_them = outer_gradient(made, made.model, weights, settings(outer_share=0.5))
    weights[[0, 1]] = 0.1

    fewer = outer_gradient(made, made.model, weights, settings(outer_share=0.5))

    loss = made.outer(made.model, np.arange(2, 8)).sum() / 4
    expected = torch.autograd.grad(loss, list(made.model.parameters()))
    assert all(torch.allclose(*pair) for pair in zip(fewer, expected, strict=True))
    # Equal weights are all among the highest.
    loss = made.outer(made.model, np.arange(8)).sum() / 4
    expected = torch.autograd.grad(loss, list(made.model.parameters()))
    assert all(torch.allclose(*pair) for pair in zip(all_of_them, expected, strict=True))


def test_theta_moves_as_adam_of_torch_moves_it() -> None:
    made, values = problem(), settings(learning_rate=0.1)
    theta = torch.zeros(ROWS, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([theta], lr=values.outer_learning_rate)
    state = first_state(ROWS)
    assert state.weights.tolist() == [0.5] * ROWS

    for _ in range(3):
        before, state = state, outer_step(made, state, values)
        # The gradient that was used follows from the first moment.
        theta.grad = (state.mean - 0.9 * before.mean) / 0.1
        adam.step()

    assert torch.allclose(state.theta, theta.detach(), rtol=1e-6)
    assert state.iteration == 3


def test_a_gradient_that_is_too_long_is_cut() -> None:
    values = settings(gradient_norm=1e-12)

    state = outer_step(problem(), first_state(ROWS), values)

    assert state.mean.norm().item() == pytest.approx(1e-13)


def test_the_state_survives_being_packed() -> None:
    state = outer_step(problem(), first_state(ROWS), settings())

    again = State.unpacked(state.packed())

    assert again.iteration == 1
    assert all(
        torch.equal(getattr(again, name), getattr(state, name)) for name in ("theta", "mean", "square")
    )


def test_weights_that_vanish_are_told_with_a_remedy() -> None:
    # What lowers the inner loss of any row raises the outer loss: none is to be trusted.
    made, state = problem(outer_sign=-1.0, alike=True), first_state(ROWS)
    far = State(state.theta - 4, state.mean, state.square)

    with pytest.raises(WeightsVanished, match=r"all are below 0.01 .* lower feedback.weights.outer_learning"):
        for _ in range(10):
            far = outer_step(made, far, settings(outer_learning_rate=1.0, outer_share=1.0))


def test_weights_that_are_no_numbers_are_told() -> None:
    state = first_state(ROWS)

    with pytest.raises(WeightsVanished, match="not finite after iteration 1"):
        outer_step(problem(outer_sign=float("nan")), state, settings())


def test_a_model_that_diverges_is_told() -> None:
    made = problem()
    torch.nn.init.constant_(made.model.weight, float("nan"))

    with pytest.raises(RunError, match=r"loss of iteration 1 is not finite; lower feedback.weights.learning"):
        outer_step(made, first_state(ROWS), settings())


@pytest.mark.parametrize("classes", [2, 3])
def test_reverse_cross_entropy_by_hand(classes: int) -> None:
    logits = torch.log(torch.tensor([[0.7, 0.3], [0.2, 0.8]] if classes == 2 else [[0.5, 0.3, 0.2]] * 2))

    found = reverse_cross_entropy(logits, torch.tensor([0, 0]), 1.0)

    # q of the target is e / (e + classes - 1), of the others 1 / (e + classes - 1).
    rest = np.log(np.e + classes - 1)
    right = [0.7, 0.2] if classes == 2 else [0.5, 0.5]
    assert found.tolist() == pytest.approx([rest - share for share in right], rel=1e-5)
