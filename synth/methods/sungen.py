"""SunGen: ZeroGen writes a pool, and its rows are weighed by what a student learns from them (2205.12679)."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from typing import Literal

from pydantic import Field

from synth.method import Feedback, Method, Round, Slot, Sources
from synth.methods.zerogen import AsZeroGen, ZeroGen
from synth.task import Task


class SunGenSettings(AsZeroGen):
    """SunGen. `published_code` leaves no row out: it only weighs them, as its code does."""

    presets = {"published_code": {"conditions": 800_000, "keep": "weights"}}

    name: Literal["sungen"] = "sungen"
    keep: Literal["filter", "weights", "both"] = "both"
    """What becomes of the weights. `filter`: rows of the highest weight stay, up to the targets; `weights`:
    students learn each row of the dataset by its weight, and none is left out; `both`: students learn by
    weight from the rows that stay."""
    pool: float = Field(4, ge=1, allow_inf_nan=False)
    """Rows written for one that stays, with `filter` and `both`; ours. The paper weighs 200,000 to 1,000,000
    rows and takes subsets of different sizes."""

    @property
    def weights_leave_out(self) -> bool:
        """Whether the rows of least weight leave the dataset."""
        return self.keep != "weights"

    @property
    def weights_in_dataset(self) -> bool:
        """Whether the dataset gets the weights as a column, by which students learn."""
        return self.keep != "filter"

    def rounds(self, targets: Mapping[str, int]) -> Sequence[Round]:
        """Return a round that writes the pool, and one that writes nothing and weighs it."""
        times = self.pool if self.weights_leave_out else 1
        # 10 * 1.1 is a hair above 11.
        pooled = {label: ceil(round(n * times, 6)) for label, n in targets.items()}
        return [Round(pooled), Round(targets, ("weights",))]

    def build(self, task: Task) -> Method:
        return SunGen(self, task)


class SunGen(ZeroGen):
    """Plans as ZeroGen does, and after the pool nothing more."""

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        return iter(()) if round else super().plan(sources, round, feedback)
