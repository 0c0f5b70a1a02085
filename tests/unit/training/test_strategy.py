import logging
from pathlib import Path
from typing import Any

import pytest
import torch

import training.strategy
from cluster.errors import SettingsError
from training.moments import Schedule, read_state
from training.optimisation import OptimisationSettings
from training.strategy import Place, begin, half, zero_stage

CPU = torch.device("cpu")


def rates(steps: int, **values: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = Schedule(optimizer, OptimisationSettings(learning_rate=0.05, **values), steps)
    taken = []
    for _ in range(steps + 1):
        schedule.set_rate()
        taken.append(optimizer.param_groups[0]["lr"])
    return taken


def test_learning_rate_rises_over_the_warmup_and_falls_to_zero() -> None:
    taken = rates(16, warmup_ratio=0.25)
    assert taken[0] == 0.0
    assert taken[4] == max(taken) == pytest.approx(0.05)
    assert taken[:5] == sorted(taken[:5])
    assert taken[4:] == pytest.approx([0.05 * left / 12 for left in range(12, -1, -1)])


def test_other_schedules() -> None:
    assert rates(4, warmup_ratio=0, schedule="constant") == pytest.approx([0.05] * 5)
    cosine = rates(4, warmup_ratio=0, schedule="cosine")
    assert cosine == pytest.approx([0.05, 0.05 * (0.5 + 0.5**1.5), 0.025, 0.05 * (0.5 - 0.5**1.5), 0.0])


@pytest.mark.parametrize(
    ("settings", "device", "world", "stage"),
    [
        ({}, "cpu", 2, 0),
        ({}, "cuda", 1, 0),
        ({}, "cuda", 2, 1),
        ({"zero": 0}, "cuda", 2, 0),
        ({"zero": 2}, "cpu", 1, 2),
        ({"offload": "optimizer"}, "cuda", 1, 1),
        ({"offload": "all"}, "cuda", 2, 3),
    ],
)
def test_stage_of_zero(
    settings: dict[str, Any], device: str, world: int, stage: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.strategy, "find_spec", lambda name: name == "deepspeed" or None)
    assert zero_stage(OptimisationSettings(**settings), Place(torch.device(device), 0, world)) == stage


def test_without_deepspeed_it_is_left_out_or_asked_for_in_vain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(training.strategy, "find_spec", lambda _: None)
    with caplog.at_level(logging.WARNING):
        assert zero_stage(OptimisationSettings(), Place(torch.device("cuda"), 0, 2)) == 0
    assert "DeepSpeed is not installed" in caplog.text
    with pytest.raises(
        SettingsError, match=r"zero: DeepSpeed is not installed; pip install .* or set zero: 0"
    ):
        zero_stage(OptimisationSettings(zero=2), Place(CPU))


def test_precision_follows_the_device_unless_it_is_said() -> None:
    cuda = Place(torch.device("cuda"))
    assert [half(OptimisationSettings(), place) for place in (cuda, Place(CPU))] == [True, False]
    assert not half(OptimisationSettings(precision="fp32"), cuda)
    seen: list[torch.dtype] = []
    model = torch.nn.Linear(2, 2)
    model.register_forward_hook(lambda *given: seen.append(given[2].dtype))
    begin(model, OptimisationSettings(precision="bf16"), 1, Place(CPU)).module(torch.ones(1, 2))
    begin(model, OptimisationSettings(), 1, Place(CPU)).module(torch.ones(1, 2))
    assert seen == [torch.bfloat16, torch.float32]
    assert model.weight.dtype == torch.float32


def test_frozen_weights_are_neither_trained_nor_saved(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    before = [weight.detach().clone() for weight in model.parameters()]
    strategy = begin(model, OptimisationSettings(learning_rate=0.1, warmup_ratio=0), 2, Place(CPU))
    with strategy.part(last=True):
        strategy.backward(strategy.module(torch.ones(3, 2)).sum())
    strategy.step()
    strategy.save(tmp_path)
    changed = [not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True)]
    assert changed == [False, False, True, True]
    state = read_state(tmp_path)
    assert [state.has("weight", name) for name, _ in model.named_parameters()] == changed
    assert state.steps == 1
    whole = strategy.weights()
    assert whole is not None
    assert set(whole) == set(model.state_dict())
