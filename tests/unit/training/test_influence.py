"""Influence on a toy problem: against retraining, exact solves, plain loops and numbers by hand."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.stats import spearmanr
from torch.nn.functional import cross_entropy, one_hot

from cluster.errors import DataError, SettingsError
from cluster.storage import LocalStore
from training.dataset import Indices
from training.feedback.differentials import LossSurface
from training.feedback.influence import _drawn, influence
from training.feedback.judgement import reverse_losses
from training.feedback.lissa import inverse_curvature, recursion_batches
from training.feedback.settings import InfluenceSettings

ROWS, JUDGES, FEATURES, CLASSES, DECAY = 60, 40, 4, 3, 0.05
NAMES = ("weight", "bias")
EVERY = np.arange(ROWS)


class Regression:
    """Multinomial logistic regression on random features, six rows mislabelled, trained to the end.

    The Hessian is written out, so that nothing here shares a line with what is tested.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.centres = random.normal(size=(CLASSES, FEATURES))
        self.x, self.y = self._draw(random, ROWS)
        self.y[:6] = (self.y[:6] + 1) % CLASSES
        self.judge_x, self.judge_y = self._draw(random, JUDGES)
        self.model = torch.nn.Linear(FEATURES, CLASSES, dtype=torch.float64)
        weights = torch.ones(CLASSES, FEATURES + 1, dtype=torch.float64)
        weights[:, -1] = 1e-4
        self.decay = 2 * DECAY * weights.flatten()
        self.best = self.fitted(EVERY)
        self.place(self.best)

    def _draw(self, random: np.random.Generator, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
        targets = random.integers(0, CLASSES, rows)
        values = self.centres[targets] + random.normal(size=(rows, FEATURES))
        return torch.tensor(values), torch.tensor(targets)

    def place(self, vector: torch.Tensor) -> None:
        with torch.no_grad():
            for name, part in parted(vector).items():
                self.model.get_parameter(name).copy_(part)

    def fitted(self, rows: Indices) -> torch.Tensor:
        """Return the minimum of the mean loss of rows and the decay, (parameters,), by Newton's method."""
        x = torch.cat([self.x[rows], torch.ones(len(rows), 1)], 1)
        found = torch.zeros(CLASSES * (FEATURES + 1), dtype=torch.float64)
        for _ in range(12):
            p = (x @ found.view(CLASSES, -1).T).softmax(-1)
            slope = ((p - one_hot(self.y[rows], CLASSES)).T @ x).flatten() / len(rows) + self.decay * found
            found -= torch.linalg.solve(self.hessian(rows, found), slope)
        return found

    def hessian(self, rows: Indices, at: torch.Tensor) -> torch.Tensor:
        x = torch.cat([self.x[rows], torch.ones(len(rows), 1)], 1)
        p = (x @ at.view(CLASSES, -1).T).softmax(-1)
        spread = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
        curved = torch.einsum("nij,na,nb->iajb", spread, x, x) / len(rows)
        return curved.reshape(len(at), len(at)) + torch.diag(self.decay)

    def surface(self, parts: int = 1) -> LossSurface:
        def losses(model: Any, rows: Indices) -> torch.Tensor:
            return cross_entropy(model(self.x[rows]), self.y[rows], reduction="none")

        # Passes in no order at all: nothing may depend on how rows are cut.
        return LossSurface(
            self.model, losses, NAMES, lambda rows: np.array_split(np.arange(len(rows))[::-1], parts)
        )

    def validation(self) -> LossSurface:
        def losses(model: Any, rows: Indices) -> torch.Tensor:
            return reverse_losses(model(self.judge_x[rows]), self.judge_y[rows], 1.0)

        return LossSurface(self.model, losses, NAMES)

    def judged(self, vector: torch.Tensor) -> float:
        """Return the mean validation loss of these parameters."""
        self.place(vector)
        loss = float(self.validation().losses(self.model, np.arange(JUDGES)).mean().detach())
        self.place(self.best)
        return loss


def joined(parts: Any) -> torch.Tensor:
    return torch.cat([parts["weight"], parts["bias"][:, None]], 1).detach().flatten()


def parted(vector: torch.Tensor) -> dict[str, torch.Tensor]:
    table = vector.view(CLASSES, FEATURES + 1)
    return {"weight": table[:, :-1], "bias": table[:, -1]}


def settings(**values: Any) -> InfluenceSettings:
    exact = {"damping": 1e-3, "hessian_scale": 2.0, "batch_size": ROWS, "depth": 250, "weight_decay": DECAY}
    return InfluenceSettings.model_validate(exact | values)


@pytest.fixture(scope="module")
def toy() -> Regression:
    return Regression()


@pytest.fixture(scope="module")
def vector(toy: Regression) -> dict[str, torch.Tensor]:
    return toy.validation().gradient(np.arange(JUDGES))


@pytest.fixture(scope="module")
def direction(toy: Regression, vector: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return inverse_curvature(toy.surface(), EVERY, vector, settings(), seed=0)


def test_influence_ranks_rows_as_retraining_without_them_does(
    toy: Regression, direction: dict[str, torch.Tensor]
) -> None:
    found = -toy.surface().slopes(EVERY, direction).numpy()
    before = toy.judged(toy.best)
    # What the validation loss falls by when a row is put in.
    truth = np.array([before - toy.judged(toy.fitted(np.delete(EVERY, row))) for row in EVERY])
    assert spearmanr(found, truth).statistic > 0.97
    # Not only the order: to first order it is the very difference, times the rows.
    np.testing.assert_allclose(found / ROWS, truth, atol=0.15 * np.abs(truth).max())
    # Negative helps, and mislabelled rows harm.
    assert found[:6].mean() > 0 > np.median(found[6:])


def test_lissa_comes_to_the_exact_solution(
    toy: Regression, vector: dict[str, torch.Tensor], direction: dict[str, torch.Tensor]
) -> None:
    damped = toy.hessian(EVERY, toy.best) + 1e-3 * 2.0 * torch.eye(len(toy.best))
    exact = torch.linalg.solve(damped, joined(vector))
    assert float((joined(direction) - exact).norm()) < 1e-3 * float(exact.norm())

    def missed(runs: int) -> float:
        """Return by what share mini-batches miss it, over some seeds."""
        rough = settings(batch_size=6, hessian_scale=4.0, damping=5e-4, depth=100, runs=runs)
        found = [joined(inverse_curvature(toy.surface(), EVERY, vector, rough, seed)) for seed in range(3)]
        return float(np.mean([(each - exact).norm() / exact.norm() for each in found]))

    # Several runs come nearer than one; and a Hessian without weight decay is another.
    assert missed(runs=4) < 0.75 * missed(runs=1) < 0.1
    other = inverse_curvature(toy.surface(), EVERY, vector, settings(weight_decay=0.0), seed=0)
    assert float((joined(other) - exact).norm()) > 0.1 * float(exact.norm())


def test_a_recursion_that_grows_is_refused(toy: Regression, vector: dict[str, torch.Tensor]) -> None:
    with pytest.raises(SettingsError, match=r"hessian_scale: 0.01; set it to 0.1"):
        inverse_curvature(toy.surface(), EVERY, vector, settings(hessian_scale=0.01), seed=0)
    # Long enough to leave the numbers behind.
    with pytest.raises(SettingsError, match="grows without bound"):
        inverse_curvature(toy.surface(), EVERY, vector, settings(hessian_scale=1e-6, depth=120), seed=0)


@pytest.mark.parametrize("forward", [True, False])
@pytest.mark.parametrize("parts", [1, 7])
def test_slopes_are_those_of_a_loop_over_rows(
    toy: Regression, direction: dict[str, torch.Tensor], forward: bool, parts: int
) -> None:
    rows = np.array([5, 59, 0, 17, 3, 20, 21, 22])
    found = toy.surface(parts).slopes(rows, direction, forward)
    for row, slope in zip(rows, found, strict=True):
        loss = cross_entropy(toy.model(toy.x[[row]]), toy.y[[row]])
        gradients = torch.autograd.grad(loss, list(toy.model.parameters()))
        assert float(slope) == pytest.approx(
            float((joined(dict(zip(NAMES, gradients, strict=True))) * joined(direction)).sum())
        )


def test_gradient_and_curvature_do_not_depend_on_the_passes(
    toy: Regression, vector: dict[str, torch.Tensor]
) -> None:
    one, many = toy.surface(), toy.surface(7)
    np.testing.assert_allclose(joined(many.gradient(EVERY)), joined(one.gradient(EVERY)), atol=1e-12)
    np.testing.assert_allclose(
        joined(many.curvature(EVERY, vector)), joined(one.curvature(EVERY, vector)), atol=1e-12
    )


class Doubled(torch.autograd.Function):
    """An operation that knows its gradient, and no forward derivative."""

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return 2 * value

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * gradient


def test_an_operation_without_forward_derivative_is_seen(
    toy: Regression, direction: dict[str, torch.Tensor]
) -> None:
    plain = toy.surface()
    doubled = LossSurface(toy.model, lambda model, rows: Doubled.apply(plain.losses(model, rows)), NAMES)
    assert plain.runs_forward(EVERY, direction)
    assert not doubled.runs_forward(EVERY, direction)
    twice = doubled.slopes(EVERY, direction, forward=False)
    np.testing.assert_allclose(twice, 2 * plain.slopes(EVERY, direction), atol=1e-12)


def test_reverse_cross_entropy_by_hand() -> None:
    two = torch.tensor([[0.75, 0.25]]).log()
    # q is (e, 1) / (e + 1): -(0.75 * log q0 + 0.25 * log q1) = log(e + 1) - 0.75.
    assert float(reverse_losses(two, torch.tensor([0]), 1.0)) == pytest.approx(1.3132617 - 0.75)
    assert float(reverse_losses(two, torch.tensor([1]), 1.0)) == pytest.approx(1.3132617 - 0.25)
    three = torch.tensor([[0.5, 0.2, 0.3]]).log()
    # log(e + 2) is 1.5514447; log(e^10 + 2) is 10.0000908.
    assert float(reverse_losses(three, torch.tensor([2]), 1.0)) == pytest.approx(1.5514447 - 0.3)
    assert float(reverse_losses(three, torch.tensor([2]), 10.0)) == pytest.approx(10.0000908 - 3.0)
    # Several labels: the mean over the labels of two classes each.
    several = torch.tensor([[0.9, 0.4]]).logit()
    held = reverse_losses(several, torch.tensor([[1.0, 0.0]]), 1.0)
    assert float(held) == pytest.approx(1.3132617 - (0.9 + 0.6) / 2)


def test_steps_are_one_pass_unless_told(toy: Regression) -> None:
    def sizes(rows: int, **values: int) -> tuple[int, set[int]]:
        batches = list(recursion_batches(np.arange(rows), InfluenceSettings(**values), seed=0, run=0))
        return len(batches), {len(batch) for batch in batches}

    assert sizes(200) == (200, {1})
    assert sizes(1_999) == (1_000, {1})
    assert sizes(10_000) == (1_000, {10})
    assert sizes(200_000) == (1_000, {128})
    assert sizes(10, batch_size=4, depth=7) == (7, {4, 2})
    (first, *_), (again, *_) = (
        list(recursion_batches(np.arange(50), settings(depth=1), seed=0, run=run)) for run in (0, 1)
    )
    assert sorted(first) == sorted(again) == list(range(50))
    assert first.tolist() != again.tolist()


def rows(texts: list[str]) -> pa.Table:
    labels = ["a" if text < "m" else "b" for text in texts]
    return pa.table({"id": [f"id-{text}" for text in texts], "text": texts, "label": labels})


def test_the_draw_depends_on_what_rows_say_and_not_on_their_order() -> None:
    texts, few = [f"{letter} text" for letter in "qwertyuiopas"], settings(most_rows=5)
    forwards, backwards = rows(texts), rows(texts[::-1])
    drawn = [
        [table["text"][int(row)].as_py() for row in _drawn(table, few, 3)] for table in (forwards, backwards)
    ]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert len(set(drawn[0])) == 5
    other = [forwards["text"][int(row)].as_py() for row in _drawn(forwards, few, 4)]
    assert other != drawn[0]
    assert len(_drawn(forwards, settings(), 3)) == len(texts)


def test_nothing_to_judge_by_is_the_users_to_mend(tmp_path: Any) -> None:
    store, some = LocalStore(tmp_path), rows(["a", "z"])
    with pytest.raises(DataError, match="there are no validation rows"):
        influence(store, "s", some, some.slice(0, 0), ("a", "b"), settings())
    with pytest.raises(DataError, match="there are no training rows"):
        influence(store, "s", some.slice(0, 0), some, ("a", "b"), settings())
    with pytest.raises(DataError, match="label 'b' is unknown"):
        influence(store, "s", some, some, ("a", "c"), settings())


def test_scale_stretches_and_keeps_the_order() -> None:
    logits = torch.tensor([[0.3, -1.0, 2.0]], requires_grad=True)
    slopes = [
        torch.autograd.grad(reverse_losses(logits, torch.tensor([0]), scale).sum(), logits)[0]
        for scale in (1.0, 10.0)
    ]
    np.testing.assert_allclose(slopes[1], 10 * slopes[0], rtol=1e-5)
    assert math.isfinite(float(reverse_losses(logits.detach() * 1e4, torch.tensor([0]), 100.0)))
