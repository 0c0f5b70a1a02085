from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cluster.errors import RunError
from training.dataset import TokenisedTexts, TrainingRows
from training.loop import Place, Training, fit
from training.settings import StudentSettings

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


def training(**values: float) -> Training:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, ROWS)
    # Tokens 1 to 4 speak for label 0, tokens 5 to 8 for label 1.
    lengths = random.integers(2, 9, ROWS)
    tokens = np.concatenate(
        [1 + 4 * label + random.integers(0, 4, n) for label, n in zip(targets, lengths, strict=True)]
    )
    starts = np.concatenate([[0], np.cumsum(lengths)])
    texts = TokenisedTexts(tokens.astype(np.int32), starts, pad_id=0)
    settings = StudentSettings(
        **{"name": "bag", "base": "none", "epochs": 6, "learning_rate": 0.05, "batch_size": 4} | values
    )
    return Training(Bag(settings.dropout), TrainingRows(texts, targets), settings, Place(torch.device("cpu")))


def test_loss_falls_and_every_row_is_observed_after_every_epoch() -> None:
    history = fit(training(), lambda _: None)
    assert history.losses[-1] < 0.1 < history.losses[0]
    assert [len(seen) for seen in history.probabilities] == [ROWS] * 6
    assert bool(history.correct[-1].all())
    assert ((history.probabilities[-1] > 0.5) == history.correct[-1]).all()


def test_resumed_training_is_the_unbroken_one() -> None:
    unbroken = training(dropout=0.3)
    states: list[dict[str, object]] = []
    fit(unbroken, lambda now: states.append(_copy(now)))
    resumed = training(dropout=0.3)
    resumed.resume(states[2])
    history = fit(resumed, lambda _: None)
    assert history.losses == unbroken.history.losses
    for name, weights in unbroken.model.state_dict().items():
        assert torch.equal(weights, resumed.model.state_dict()[name])


def _copy(now: Training) -> dict[str, object]:
    import io

    file = io.BytesIO()
    torch.save(now.state(), file)
    file.seek(0)
    state: dict[str, object] = torch.load(file, weights_only=True)
    return state


def test_learning_rate_rises_over_the_warmup_and_falls_to_zero() -> None:
    now = training(warmup_ratio=0.25, epochs=2)
    rates = []
    for _ in range(16):
        rates.append(now.optimizer.param_groups[0]["lr"])
        now.optimizer.step()
        now.schedule.step()
    assert rates[0] == 0.0
    assert rates[4] == max(rates) == pytest.approx(0.05)
    assert rates[:5] == sorted(rates[:5])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert now.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    now = training()
    with torch.no_grad():
        now.model.head.bias.fill_(float("nan"))
    with pytest.raises(RunError, match="student bag: the loss of epoch 1 is nan; lower learning_rate"):
        fit(now, lambda _: None)
