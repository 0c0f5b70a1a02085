"""Windows of lessons: that they are full, and that a lesson in a window is learnt as if it were alone."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import BloomConfig, BloomForCausalLM, LlamaConfig, LlamaForCausalLM

from cluster.errors import ModelError
from training.tuning.objective import Replies
from training.tuning.packing import Windows, packed, windows
from training.tuning.rendering import TokenisedLessons, flat

CPU = torch.device("cpu")
WORDS = 97
ROOM = 64


def some_lessons(count: int = 23) -> TokenisedLessons:
    random = np.random.default_rng(1)
    found = []
    for _ in range(count):
        prompt, reply = int(random.integers(1, 20)), int(random.integers(1, 25))
        found.append((random.integers(1, WORDS, prompt + reply).tolist(), prompt))
    return flat(found, count)


def tiny_llama() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    # Weights as large as trained ones: with the usual 0.02 tokens would hardly see each other.
    config = LlamaConfig(vocab_size=WORDS, num_key_value_heads=2, initializer_range=0.3, **sizes)
    return LlamaForCausalLM(config).eval()


def whole_loss(model: Any, lessons: TokenisedLessons, packing: bool, flattened: bool = False) -> torch.Tensor:
    """Return the loss per reply token, as the loop takes it of three windows at a time."""
    found = windows(lessons, ROOM, packing, seed=0, pad_id=0)
    taught = Replies(found, model)
    taught._flat = flattened
    rows = taught.rows()
    assert rows.weights is not None
    total = torch.zeros(())
    for start in range(0, len(found), 3):
        chosen = np.arange(start, min(start + 3, len(found)))
        total = total + (taught.losses(model, rows, chosen, CPU) * torch.tensor(rows.weights[chosen])).sum()
    return total / rows.weights.sum()


def by_hand(model: Any, lessons: TokenisedLessons) -> torch.Tensor:
    """Return the loss per reply token, lesson by lesson."""
    total = torch.zeros(())
    for lesson, prompt in enumerate(lessons.prompts):
        tokens = torch.tensor(lessons.tokens[lessons.starts[lesson] : lessons.starts[lesson + 1]]).long()
        logits = model(tokens[None]).logits[0]
        total = total + cross_entropy(logits[prompt - 1 : -1], tokens[prompt:], reduction="sum")
    return total / lessons.reply_tokens().sum()


def gradients(model: Any, loss: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])


def test_windows_hold_every_lesson_once_and_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(3, 200, 2000)
    found = packed(lengths, 256, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(2000))
    filled = [int(lengths[window].sum()) for window in found]
    assert max(filled) <= 256
    assert sum(filled) / (256 * len(found)) > 0.99
    again = packed(lengths, 256, seed=0)
    assert all((one == other).all() for one, other in zip(found, again, strict=True))
    assert any(set(one) != set(other) for one, other in zip(found, packed(lengths, 256, 1), strict=True))
    assert [window.tolist() for window in packed(np.array([256, 256]), 256, 0)] in ([[0], [1]], [[1], [0]])


def test_a_window_says_what_is_learnt_and_where_lessons_begin() -> None:
    lessons = flat([([11, 12, 13, 14, 15], 2), ([21, 22, 23], 1)], 2)
    batch = Windows(lessons, np.array([0, 1, 1]), np.array([0, 2, 3]), pad_id=9).batch(np.array([0, 1]))
    assert batch.tokens.tolist() == [[11, 12, 13, 14, 15, 21, 22, 23], [21, 22, 23, 9, 9, 9, 9, 9]]
    assert batch.positions.tolist() == [[0, 1, 2, 3, 4, 0, 1, 2], [0, 1, 2, 0, 0, 0, 0, 0]]
    no = -100
    assert batch.targets.tolist() == [[no, 13, 14, 15, no, 22, 23, no], [22, 23, no, no, no, no, no, no]]
    tokens, mask = Windows(lessons, np.array([0, 1]), np.array([0, 1, 2]), 9).padded(np.array([1, 0]))
    assert tokens.tolist() == [[21, 22, 23, 9, 9], [11, 12, 13, 14, 15]]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


@pytest.mark.parametrize(("packing", "flattened"), [(True, False), (True, True), (False, False)])
def test_a_packed_lesson_is_learnt_as_if_it_were_alone(packing: bool, flattened: bool) -> None:
    model, lessons = tiny_llama(), some_lessons()
    expected, loss = by_hand(model, lessons), whole_loss(model, lessons, packing, flattened)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients(model, loss), gradients(model, expected), rtol=1e-3, atol=1e-6)


class Leaking:
    """Attends over a whole window, as a model would that ignores positions."""

    def __init__(self, model: Any) -> None:
        self.inner, self.config, self.eval = model, model.config, model.eval

    def __call__(self, **named: Any) -> Any:
        return self.forward(**named)

    def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
        return self.inner(input_ids=input_ids, use_cache=use_cache)


def test_a_model_that_mixes_lessons_is_refused() -> None:
    lessons = some_lessons()
    found = windows(lessons, ROOM, True, seed=0, pad_id=0)
    good, leaking = tiny_llama(), Leaking(tiny_llama())
    Replies(found, good).check_apart(good, good, CPU)
    expected = by_hand(good, lessons)
    mixed = whole_loss(leaking, lessons, packing=True)
    assert abs((mixed - expected) / expected).item() > 0.01
    with pytest.raises(ModelError, match=r"tune.packing: Leaking cannot keep the lessons of a window apart"):
        Replies(found, leaking).check_apart(leaking, leaking, CPU)


def test_a_model_without_positions_learns_lessons_one_by_one() -> None:
    torch.manual_seed(0)
    model: Any = BloomForCausalLM(
        BloomConfig(vocab_size=WORDS, hidden_size=32, n_layer=1, n_head=2, initializer_range=0.3)
    ).eval()
    lessons = some_lessons(7)
    with pytest.raises(ModelError, match=r"BloomForCausalLM cannot keep .* set tune.packing to false"):
        whole_loss(model, lessons, packing=True)
    torch.testing.assert_close(whole_loss(model, lessons, packing=False), by_hand(model, lessons))
