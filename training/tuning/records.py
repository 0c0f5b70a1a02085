"""What tuning a teacher is told and what it reports."""

from dataclasses import dataclass
from typing import Any

from cluster.storage import Store
from training.tuning.settings import TuningSettings


@dataclass(frozen=True, slots=True)
class TuningReport:
    """What tuning a teacher came to; losses are means per reply token and epoch."""

    name: str
    fingerprint: str
    base: str
    base_revision: str
    lessons: int
    left_out: int
    """Lessons longer than max_tokens, which were not learnt."""
    windows: int
    tokens: int
    """Tokens of all lessons; the rest of the windows is padding."""
    reply_tokens: int
    """Tokens that were learnt."""
    steps: int
    workers: int
    losses: tuple[float, ...]
    seconds: float
    """Of the last attempt."""
    resumed_after: int
    """Steps that an earlier attempt had done, when a worker or the driver was lost."""
    reused: bool = False
    """True when the teacher was tuned already and nothing was done."""


@dataclass(frozen=True, slots=True)
class TuningJob:
    """What every worker is told."""

    settings: TuningSettings
    base: str
    revision: str
    store: Store
    key: str
    fingerprint: str
    lessons: Any = None
    """Ray reference to the tokenised lessons."""
    cpus: int = 1
