"""Checkpoints of a training under Ray Train: when they are due, and going on from the newest."""

import os
import tempfile
import time
from pathlib import Path

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from training.state import Training
from training.strategy import Place

_SECONDS_BETWEEN_LOOKS = 3.0
_MOST_STEPS = 1000


def worker_place() -> Place:
    """Return where this worker of Ray Train runs."""
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    if device.type == "cpu":
        # Else saving has DeepSpeed, where it is installed, tell the terminal which accelerator it found.
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    return Place(device, context.get_world_rank(), context.get_world_size())


def resume(training: Training) -> int:
    """Go on from the newest checkpoint, if there is one; return the steps it had done."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            training.load(Path(folder))
    return training.steps_done


class Checkpoints:
    """Called after each step: hands a checkpoint to Ray Train when the last is old enough.

    A node that is to be taken away is told of before: then a checkpoint is made at once. Asking, and
    reporting, are barriers; all workers follow the clock of the first, which is looked at every few seconds.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.saved = self.looked = time.monotonic()
        self.left = self.interval = 1
        self.warned = False

    def __call__(self, training: Training) -> None:
        self.left -= 1
        if self.left or training.finished:
            return
        due, self.left = self._look(training.place)
        self.interval = self.left
        if due or self._warning():
            self._save(training)
            self.saved = time.monotonic()

    def _look(self, place: Place) -> tuple[bool, int]:
        """Return whether a checkpoint is due, and the steps until the next look, the same on every worker."""
        now = time.monotonic()
        pace = max((now - self.looked) / self.interval, 1e-6)
        self.looked = now
        until = min(_SECONDS_BETWEEN_LOOKS, self.seconds / 4)
        steps = min(max(int(until / pace), 1), _MOST_STEPS)
        # At the next look it would be too late.
        due = now - self.saved >= self.seconds - until
        answer = torch.tensor([float(due), float(steps)], device=place.device)
        if place.world > 1:
            dist.broadcast(answer, src=0)
        agreed, steps = answer.tolist()
        return bool(agreed), int(steps)

    def _warning(self) -> bool:
        """Say whether a node of the group is about to go, and was not when this was asked before."""
        before, self.warned = self.warned, ray.train.get_preemption_info() is not None
        return self.warned and not before

    def _save(self, training: Training) -> None:
        with tempfile.TemporaryDirectory() as folder:
            training.save(Path(folder))
            own = ray.train.Checkpoint.from_directory(folder) if any(Path(folder).iterdir()) else None
            ray.train.report({"steps": training.steps_done}, checkpoint=own)
