"""Settings of what a student teaches before a round is planned; each kind's defaults are its paper's."""

from functools import partial
from typing import Any

from pydantic import Field, field_validator

from cluster.settings import Settings
from training.feedback.settings import InfluenceSettings, WeightSettings
from training.knowledge_settings import CartographySettings, Examiner, default_examiner, named_examiner


class FeedbackSettings(Settings):
    """How a student is trained between the rounds of a method, and what is asked of it."""

    student: Examiner = Field(default_factory=partial(default_examiner, "feedback"))
    """What is trained on the rows so far before a round, anew each time."""
    influence: InfluenceSettings = InfluenceSettings()
    """How rows are told that help the student most (ProGen)."""
    weights: WeightSettings = WeightSettings()
    """How rows are weighed (SunGen)."""
    cartography: CartographySettings = CartographySettings()
    """How rows are mapped, and which of them are kept."""

    validation: float = Field(default=0.1, gt=0, lt=1)
    """Share of the rows, of every label, that the influence of the others is measured on (ProGen: 1,000)."""
    folds: int = Field(default=3, ge=1)
    """Students that tell which rows they agree with, each asked about a share that it has not learned; with 1
    it is the student of all rows, which agrees with nearly all of them. ReGen says neither."""
    refills: int = Field(default=0, ge=0)
    """Times that, after the method's own rounds, rows are dropped by the data map and made up for."""

    @field_validator("student", mode="before")
    @classmethod
    def _named(cls, student: Any) -> Any:
        return named_examiner(student, "feedback")
