from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cluster.errors import DataError, RunError
from training.dataset import TokenisedTexts, TrainingRows
from training.held_out import held_out
from training.loop import fit
from training.objectives import SingleLabel
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place

ROWS = 30


class Bag(torch.nn.Module):
    """Classifies by the mean of its token embeddings."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = torch.nn.Embedding(10, 8)
        self.dropout = torch.nn.Dropout(dropout)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        return SimpleNamespace(logits=self.head(self.dropout((self.embed(input_ids) * weights).sum(1))))


def rows(weights: list[float] | None = None) -> TrainingRows:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, ROWS)
    # Tokens 1 to 4 speak for label 0, tokens 5 to 8 for label 1.
    lengths = random.integers(2, 9, ROWS)
    tokens = np.concatenate(
        [1 + 4 * label + random.integers(0, 4, n) for label, n in zip(targets, lengths, strict=True)]
    )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    texts = TokenisedTexts(tokens.astype(np.int32), starts, pad_id=0)
    return TrainingRows(texts, targets, None if weights is None else np.array(weights, dtype=np.float32))


def training(weights: list[float] | None = None, **values: Any) -> Training:
    settings = StudentSettings(
        **{"name": "bag", "base": "none", "epochs": 6, "learning_rate": 0.05, "batch_size": 4} | values
    )
    taught = rows(weights)
    return Training(
        Bag(settings.dropout),
        taught,
        settings,
        Place(torch.device("cpu")),
        name="student bag",
        held=held_out(taught.targets, settings.validation, settings.seed),
        fingerprint="f",
    )


def nothing(_: Training) -> None:
    pass


def test_loss_falls_and_every_row_is_observed_after_every_epoch() -> None:
    history = fit(training(), nothing)
    assert history.losses[-1] < 0.1 < history.losses[0]
    assert [len(seen) for seen in history.probabilities] == [ROWS] * 6
    assert bool(history.correct[-1].all())
    assert ((history.probabilities[-1] > 0.5) == history.correct[-1]).all()


@pytest.mark.parametrize("stop", [3, 8, 19])
def test_training_resumed_at_a_step_is_the_unbroken_one(stop: int, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def killed(now: Training) -> None:
        if now.steps_done == stop:
            now.save(tmp_path)
            raise Killed

    values = {"dropout": 0.3, "validation": 0.2, "keep": "best"}
    unbroken, broken, resumed = training(**values), training(**values), training(**values)
    fit(unbroken, nothing)
    with pytest.raises(Killed):
        fit(broken, killed)
    resumed.load(tmp_path)
    assert resumed.steps_done == stop
    fit(resumed, nothing)
    assert resumed.history.losses == unbroken.history.losses
    assert resumed.history.validation_losses == unbroken.history.validation_losses
    kept, expected = resumed.weights(), unbroken.weights()
    assert kept is not None and expected is not None
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    fit(training(epochs=1), lambda now: now.save(tmp_path))
    other = training(epochs=1)
    other.fingerprint = "g"
    with pytest.raises(
        RunError, match=r"student bag: the checkpoint in .* is of other rows, settings or model"
    ):
        other.load(tmp_path)


@pytest.mark.parametrize("micro", [1, 3])
def test_accumulated_gradients_are_those_of_one_pass(micro: int) -> None:
    weights = [float(number % 3) for number in range(ROWS)]
    whole, cut = training(weights, batch_size=8), training(weights, batch_size=8, micro_batch=micro)
    passes: list[int] = []
    cut.model.register_forward_hook(lambda *_: passes.append(cut.model.training))
    np.testing.assert_allclose(fit(cut, nothing).losses, fit(whole, nothing).losses, rtol=1e-4)
    # Thirty rows are three batches of eight and one of six.
    assert sum(passes) == 6 * (3 * -(-8 // micro) + -(-6 // micro))
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(cut.model.state_dict()[name], value, rtol=1e-3, atol=1e-5)


def test_a_row_of_weight_two_counts_as_two_rows_and_one_of_weight_zero_as_none() -> None:
    weights = [2.0, 0.0] + [1.0] * (ROWS - 2)
    now = training(weights, batch_size=ROWS, epochs=1, learning_rate=1e-9)
    loss = fit(now, nothing).losses[0]
    each = SingleLabel().losses(now.model, now.rows, np.arange(ROWS), now.place.device)
    assert loss == pytest.approx((each * torch.tensor(weights)).sum().item() / ROWS, rel=1e-5)


def test_early_stopping_keeps_the_best_epoch() -> None:
    now = training(epochs=40, learning_rate=1.0, validation=0.3, patience=2, keep="best", schedule="constant")
    seen: list[float] = []

    def watch(at: Training) -> None:
        if at.step == 0:
            seen.append(at.model.head.weight.detach().clone())

    history = fit(now, watch)
    losses = history.validation_losses
    assert len(losses) == len(history.validation_accuracies) == history.epochs < 40
    assert history.epochs - 1 - int(np.argmin(losses)) == 2
    kept = now.weights()
    assert kept is not None
    assert torch.equal(kept["head.weight"], seen[history.best])
    assert not torch.equal(kept["head.weight"], seen[-1])
    assert len(history.probabilities[0]) == ROWS - len(now.held)


def test_rows_held_out_are_of_every_label_and_never_its_last() -> None:
    targets = np.array([0] * 50 + [1] * 10 + [2])
    held = held_out(targets, 0.2, seed=1)
    assert np.bincount(targets[held], minlength=3).tolist() == [10, 2, 0]
    assert held.tolist() == held_out(targets, 0.2, seed=1).tolist() != held_out(targets, 0.2, seed=2).tolist()
    assert len(held_out(np.eye(20, dtype=np.float32), 0.1, seed=0)) == 2
    assert len(held_out(targets, 0.0, seed=1)) == 0
    with pytest.raises(DataError, match=r"validation: 0\.1 of 2 rows holds none out"):
        held_out(np.array([0, 1]), 0.1, seed=0)


@pytest.mark.parametrize("finite", [0, 4])
def test_a_loss_that_is_not_finite_ends_the_training_at_its_step(finite: int, tmp_path: Path) -> None:
    now = training()

    def spoil(at: Training) -> None:
        if at.steps_done == finite:
            with torch.no_grad():
                at.model.head.bias.fill_(float("nan"))
        if at.steps_done > finite:
            at.save(tmp_path)

    if not finite:
        spoil(now)
    message = (
        rf"student bag: the loss of step {finite + 1} of epoch 1 is nan; lower learning_rate \(now 0.05\)"
    )
    with pytest.raises(RunError, match=message):
        fit(now, spoil)
    assert not list(tmp_path.iterdir())


def test_weights_that_the_last_step_spoilt_are_not_kept() -> None:
    now = training(epochs=1)
    now.dynamics = False

    def spoil(at: Training) -> None:
        if at.finished:
            at.model.head.bias.data.fill_(float("inf"))

    fit(now, spoil)
    with pytest.raises(RunError, match="the weights are not finite after epoch 1; lower learning_rate"):
        now.weights()


def test_an_objective_without_labels_is_trained_but_not_observed() -> None:
    class Bare:
        losses = SingleLabel.losses

        def probabilities(self, *_: Any) -> torch.Tensor:
            raise AssertionError

    taught = rows()
    settings = StudentSettings(name="bag", base="none", epochs=2, learning_rate=0.05, validation=0.2)
    held = held_out(taught.targets, 0.2, seed=0)
    bare = Training(Bag(0.0), taught, settings, Place(torch.device("cpu")), Bare(), held=held, dynamics=False)
    history = fit(bare, nothing)
    assert (history.probabilities, history.correct, history.validation_accuracies) == ([], [], [])
    assert len(history.validation_losses) == 2
