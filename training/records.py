"""What a training is told and what it reports."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """Steps that an earlier attempt had done, when a worker or the driver was lost."""
    reused: bool = False
    """True when the student was there already and nothing was trained."""
    strategy: str = "torch"
    """How steps were taken: by torch, or by which stage of DeepSpeed's ZeRO."""
    kept_epoch: int = 0
    """Epoch whose weights are kept, from 1."""
    validation_rows: int = 0
    """Rows held out, which are not among `rows`."""
    validation_losses: tuple[float, ...] = ()
    """Mean loss of the rows held out after each epoch."""
    validation_accuracies: tuple[float, ...] = ()
    """Share of the rows held out that were right after each epoch."""


@dataclass(frozen=True, slots=True)
class Wording:
    """How a task is put to a causal student; all of it is in what the student becomes."""

    instruction: str
    """The task in plain words."""
    verbalizers: Mapping[str, str] = field(default_factory=dict)
    """Label to a phrase that describes it; a label without one stands for itself."""
    text_type: str = "Text"
    """What a text is; heads it in the prompt."""


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
    wording: Wording | None = None
    """What a causal student reads around a text; encoders read the text alone."""
    rows: Any = None
    """Ray reference to the checked rows; without their texts when these are in `blocks`."""
    blocks: tuple[Any, ...] = ()
    """Ray references to tables of tokens, in the order of the rows, when they were tokenised beforehand."""
    cpus: int = 1
