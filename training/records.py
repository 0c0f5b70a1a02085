"""What a training is told and what it reports."""

from dataclasses import dataclass
from typing import Any

from cluster.storage import Store
from training.settings import StudentSettings


@dataclass(frozen=True, slots=True)
class StudentReport:
    """What training a student came to; losses are means per epoch, seconds those of the last attempt."""

    name: str
    fingerprint: str
    base: str
    revision: str
    rows: int
    steps: int
    workers: int
    losses: tuple[float, ...]
    train_accuracy: float
    seconds: float
    resumed_after: int
    """Epochs that an earlier attempt had done, when a worker or the driver was lost."""
    reused: bool = False
    """True when the student was there already and nothing was trained."""


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What every training worker is told."""

    labels: tuple[str, ...]
    settings: StudentSettings
    base: str
    revision: str
    store: Store
    key: str
    fingerprint: str
    rows: Any = None
    """Ray reference to the checked rows."""
    cpus: int = 1
