"""Rows that another tool made: nothing is planned and nobody asked; `dataset` says where they are."""

from collections.abc import Iterator
from typing import Literal

from synth.method import Feedback, Generate, Method, MethodSettings, Slot, Sources
from synth.records import Example, Item, Rejection
from synth.task import Task


class OutsideSettings(MethodSettings):
    """The method of a recipe that names a `dataset`; it need not be given."""

    asks_teacher = False

    name: Literal["outside"] = "outside"

    def build(self, task: Task) -> "Outside":
        return Outside(self, task)


class Outside(Method):
    """Plans nothing."""

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        yield from ()

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        return []
