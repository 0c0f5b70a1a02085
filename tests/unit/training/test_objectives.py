from types import SimpleNamespace

import numpy as np
import pytest
import torch

from training.dataset import TokenisedTexts, TrainingRows
from training.objectives import MultiLabel, SingleLabel, of_the_gold

CPU = torch.device("cpu")
TEXTS = TokenisedTexts(np.array([1, 2, 3, 1, 1], dtype=np.int32), np.array([0, 2, 3, 5]), pad_id=0)


class Counts(torch.nn.Module):
    """Logits that are known: how often each of the tokens 1 to 3 occurs."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        found = [((input_ids == token) * attention_mask).sum(1) for token in (1, 2, 3)]
        return SimpleNamespace(logits=torch.stack(found, 1).float())


def test_single_label_is_softmax_and_its_log() -> None:
    rows = TrainingRows(TEXTS, np.array([0, 2, 1]))
    chosen = np.array([2, 0])
    probabilities = SingleLabel().probabilities(Counts(), TEXTS, chosen, CPU)
    expected = torch.tensor([[2.0, 0, 0], [1, 1, 0]]).softmax(-1)
    torch.testing.assert_close(probabilities, expected)
    losses = SingleLabel().losses(Counts(), rows, chosen, CPU)
    torch.testing.assert_close(losses, -expected[[0, 1], [1, 0]].log())


def test_several_labels_are_sigmoids_and_the_mean_of_their_logs() -> None:
    targets = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=np.float32)
    rows = TrainingRows(TEXTS, targets)
    chosen = np.array([0, 1])
    probabilities = MultiLabel().probabilities(Counts(), TEXTS, chosen, CPU)
    p1 = 1 / (1 + np.exp(-1.0))
    np.testing.assert_allclose(probabilities, [[p1, p1, 0.5], [0.5, 0.5, p1]], rtol=1e-6)
    losses = MultiLabel().losses(Counts(), rows, chosen, CPU)
    by_hand = [-np.log([p1, 1 - p1, 0.5]).mean(), -np.log([0.5, 0.5, 1 - p1]).mean()]
    np.testing.assert_allclose(losses, by_hand, rtol=1e-6)


def test_dynamics_of_rows_with_one_label() -> None:
    probability, right = of_the_gold(torch.tensor([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1]))
    assert probability.tolist() == pytest.approx([0.7, 0.4])
    assert right.tolist() == [True, False]


def test_dynamics_of_rows_with_several_labels() -> None:
    gold = np.array([[1, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=np.float32)
    probabilities = torch.tensor([[0.9, 0.2, 0.7], [0.1, 0.2, 0.3], [0.4, 0.1, 0.1]])
    probability, right = of_the_gold(probabilities, gold)
    assert probability.tolist() == pytest.approx([0.8, 0.8, 2.2 / 3])
    assert right.tolist() == [True, True, False]
