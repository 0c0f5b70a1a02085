"""Nightshift runs inside benchmarks: a workload of known lengths, teachers that are measured, a clock."""

import asyncio
import json
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

from pydantic import Field

from cluster.progress import Progress
from cluster.rundir import owned
from cluster.storage import LocalStore
from synth.filters.settings import FilterSettings
from synth.method import Feedback, Generate, Method, MethodSettings, SamplingSettings, Slot, Sources
from synth.pipeline import ItemSource
from synth.records import Example, Item, Message, Prompt, Rejection, Reply, Sampling, make_item
from synth.synthesis import Order, synthesize
from synth.task import Task, load_task
from synth.teacher import Engine, TeacherSettings
from synth.teachers.scripted import ScriptedEngine, ScriptedSettings
from synth.teachers.vllm_backend import VllmSettings
from synth.worker import Assignment

DEMO_TASK = Path(__file__).parent.parent / "jobs" / "recipes" / "demo" / "task.yaml"
GO_ON = Message("user", "Go on.")
UNFILTERED = FilterSettings(
    refusal=False,
    min_words=None,
    max_words=None,
    language=None,
    copies_document=None,
    copies_seed=None,
    copies_test=None,
    label_leak=None,
    repetition=None,
    near_duplicates=None,
)


def demo_task() -> Task:
    """Return the demo's task with its gold seeds."""
    return load_task(DEMO_TASK, Path())


class SpreadSettings(MethodSettings):
    """A workload: chains of calls whose replies have lengths spread evenly over their logarithm."""

    name: Literal["spread"] = "spread"
    items: int = Field(ge=1)
    calls: int = Field(1, ge=1)
    shortest: int = Field(8, ge=1)
    """Tokens of the shortest reply."""
    longest: int = Field(256, ge=1)
    """Tokens of the longest reply."""
    sampling: SamplingSettings = SamplingSettings(temperature=1.0, top_p=1.0)
    """No nucleus: to sort the vocabulary for it takes a CPU longer than all layers of a small model."""

    def build(self, task: Task) -> "Spread":
        return Spread(self, task)


class Spread(Method):
    """Plans a number of items, labels in turn; each asks for replies of its own lengths, in a chain."""

    def __init__(self, settings: SpreadSettings, task: Task) -> None:
        super().__init__(settings, task)
        self.settings = settings

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        for number in range(self.settings.items):
            yield Slot(number, (self.label(number),), partial(self._item, number, round))

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        number, turns, texts = item.draw, self.turns(item.draw), list[str]()
        for tokens in self.lengths(number):
            reply = await generate(turns, self.sampling_of(tokens))
            texts.append(reply.text)
            turns = self.onward(turns, reply.text)
        # The number in front: no two texts are the same, so no more items are drawn than asked for.
        return [Example({"text": f"{number}: {' '.join(texts)}"}, item.labels[0])]

    def targets(self) -> dict[str, int]:
        """Return how many rows of every label the items make."""
        wanted = dict.fromkeys(self.task.labels, 0)
        for number in range(self.settings.items):
            wanted[self.label(number)] += 1
        return {label: rows for label, rows in wanted.items() if rows}

    def label(self, number: int) -> str:
        """Return the label of an item."""
        return self.task.labels[number % len(self.task.labels)]

    def lengths(self, number: int) -> tuple[int, ...]:
        """Return the reply tokens of every call of an item."""
        rng = random.Random(number)
        low, high = math.log(self.settings.shortest), math.log(self.settings.longest)
        return tuple(round(math.exp(rng.uniform(low, high))) for _ in range(self.settings.calls))

    def sampling_of(self, tokens: int) -> Sampling:
        """Return how a reply of so many tokens is sampled."""
        return replace(self.sampling, max_tokens=tokens)

    def turns(self, number: int) -> tuple[Message, ...]:
        """Return an item's first prompt: a request, a gold text as an earlier turn, the request again."""
        label = self.label(number)
        seeds = self.task.seeds_of(label)
        ask = f"Abstract {number + 1}: write about {self.task.verbalizer(label)}. {self.task.settings.style}."
        return (
            Message("user", ask),
            Message("assistant", seeds[number % len(seeds)].text),
            Message("user", ask),
        )

    def onward(self, turns: Sequence[Message], reply: str) -> tuple[Message, ...]:
        """Return the prompt of the next call, which holds the reply to the last."""
        return *turns, Message("assistant", reply), GO_ON

    def _item(self, number: int, round: int) -> Item:
        return make_item(self.plan_key, round, number, (self.label(number),), draw=number)


class CountedSettings(VllmSettings):
    """The vLLM teacher; its engine leaves its own counts in a file when it is closed."""

    counts: Path

    async def engine(self) -> Engine:
        engine: Any = await super().engine()
        close, path = engine.close, self.counts

        async def count_and_close() -> None:
            path.write_text(json.dumps(asdict(engine.stats) | {"seats": engine.capacity().seats}))
            await close()

        engine.close = count_and_close
        counted: Engine = engine
        return counted


class DistantSettings(ScriptedSettings):
    """A scripted teacher that takes its time like one behind a network: seconds spread about a mean."""

    spread: float = Field(0.5, ge=0, le=1)
    """Replies take from `seconds` less this share of it to `seconds` and this share more."""

    async def engine(self) -> Engine:
        return DistantEngine(self)


class DistantEngine(ScriptedEngine):
    """Waits for a time drawn from the seed, then answers as the scripted engine does."""

    def __init__(self, settings: DistantSettings) -> None:
        super().__init__(settings.model_copy(update={"seconds": 0.0}))
        self._mean, self._spread = settings.seconds, settings.spread
        self._away = 0

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        self._away += 1
        try:
            share = random.Random(seed).uniform(-self._spread, self._spread)
            await asyncio.sleep(self._mean * (1 + share))
        finally:
            self._away -= 1
        return await super().generate(prompt, sampling, seed)

    def busy(self) -> tuple[int, int]:
        return self._away, 0


@dataclass(slots=True)
class Clock:
    """When work was handed out and came back, in seconds of `time.time`, so that files' times compare."""

    handed: list[float] = field(default_factory=list)
    """One entry per lot."""
    settled: list[tuple[float, int]] = field(default_factory=list)
    """Items, one entry per exchange that finished any."""
    first_settled: dict[str, float] = field(default_factory=dict)
    """When each replica first finished something."""


def watch(assignment: Assignment, targets: Mapping[str, int], folder: Path, **order: Any) -> Clock:
    """Run an assignment as the synthesize job does, in a fresh folder, on the Ray there is."""
    clock, hand_out, take_in = Clock(), ItemSource.next_lot, ItemSource.settle

    def next_lot(source: ItemSource, replica: str, *rest: Any) -> list[Item]:
        lot = hand_out(source, replica, *rest)
        if lot:
            clock.handed.append(time.time())
        return lot

    def settle(source: ItemSource, replica: str, outcome: Any) -> None:
        take_in(source, replica, outcome)
        if outcome.settled:
            clock.settled.append((time.time(), len(outcome.settled)))
            clock.first_settled.setdefault(replica, time.time())

    store = LocalStore(folder)
    with (
        owned(store) as lease,
        patch.object(ItemSource, "next_lot", next_lot),
        patch.object(ItemSource, "settle", settle),
    ):
        synthesize(
            Order(assignment, targets, 5.0, store=store, lease=lease, progress=Progress(store), **order)
        )
    return clock


def assigned(task: Task, method: MethodSettings, teacher: TeacherSettings) -> Assignment:
    """Return an assignment for the teacher as it is here; no filter refuses what these teachers write.

    They stand for good ones in how fast they are alone: a model cut to a few layers writes no texts to keep.
    """
    return Assignment(task, method, teacher, teacher.check(), filters=UNFILTERED)
