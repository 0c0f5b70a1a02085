from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from training import checkpoints
from training.checkpoints import Checkpoints
from training.strategy import Place

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Run:
    """A training whose steps take the time they are given, and what Ray Train is told of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.steps_done = 0
        self.finished = False
        self.place = Place(torch.device("cpu"))
        self.looks = 0
        self.goes_at = float("inf")
        self.saved: list[float] = []
        train = SimpleNamespace(
            get_preemption_info=self.warning,
            report=self.report,
            Checkpoint=SimpleNamespace(from_directory=str),
        )
        monkeypatch.setattr(checkpoints.ray, "train", train)
        monkeypatch.setattr(checkpoints, "time", SimpleNamespace(monotonic=lambda: self.now))

    def warning(self) -> object | None:
        self.looks += 1
        return object() if self.now >= self.goes_at else None

    def report(self, metrics: dict[str, Any], checkpoint: str | None) -> None:
        assert metrics == {"steps": self.steps_done}
        assert checkpoint is not None
        self.saved.append(self.now)

    def save(self, folder: Path) -> None:
        (folder / "state").write_text("x")

    def go(self, keep: Checkpoints, steps: int, seconds: float) -> None:
        for _ in range(steps):
            self.now += seconds
            self.steps_done += 1
            keep(self)  # type: ignore[arg-type]


def test_no_more_than_the_seconds_are_ever_lost_and_looks_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.go(Checkpoints(60), 5_000, 0.1)
    times = [100.0, *run.saved]
    assert 8 <= len(run.saved) <= 9
    assert max(after - before for before, after in pairwise(times)) <= 60.2
    assert run.looks <= 500 / 3 + 10


def test_every_step_when_nothing_may_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    keep = Checkpoints(0)
    run.go(keep, 7, 0.5)
    assert len(run.saved) == 7
    run.finished = True
    run.go(keep, 1, 0.5)
    assert len(run.saved) == 7


def test_a_node_that_is_to_go_is_saved_from_at_once_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch)
    run.goes_at = 130.0
    run.go(Checkpoints(600), 900, 0.1)
    assert len(run.saved) == 1
    assert 130 <= run.saved[0] <= 133.3
