"""SimPrompt: the plain request for a text of a label, which AttrPrompt is held against (2306.15895)."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Literal

from pydantic import Field

from cluster.settings import digest
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    SamplingSettings,
    Slot,
    Sources,
    only_text,
)
from synth.prompting import chat, read_reply, render, stops, task_values
from synth.records import Example, Item, Prompt, Rejection, make_item
from synth.task import Task

INSTRUCTION = """\
You are an experienced writer. Write {{ text_type | lower | article }} about {{ verbalizer }}.\
{% if length %} It is {{ length }} long.{% endif %}{% if style %} Style: {{ style }}.{% endif %}"""

CLOSING = "Answer with the {{ text_type | lower }} alone."

Pools = Mapping[str, Mapping[str, Sequence[str]]]
"""Of each label the values that each attribute may take."""


class WritingSampling(SamplingSettings):
    """How the teacher samples texts."""

    temperature: float = Field(1.0, ge=0, le=5)
    """1.0, as in the published code."""
    top_p: float = Field(1.0, gt=0, le=1)
    """1.0, as in the published code."""
    max_tokens: int = Field(400, ge=1)
    """Reply tokens; AttrPrompt asks for texts of 150 words at most. Published code: 2048."""


class SimPromptSettings(MethodSettings):
    """SimPrompt. `published_code` allows longer replies."""

    presets = {"published_code": {"sampling": {"max_tokens": 2048}}}

    name: Literal["simprompt"] = "simprompt"
    sampling: WritingSampling = WritingSampling()
    """How the teacher samples texts."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, as in the paper; `raw`: a plain continuation."""
    instruction: str = INSTRUCTION
    """Jinja template of the request; may name text_type, verbalizer, length, style."""

    def build(self, task: Task) -> Method:
        return SimPrompt(self, task, self.instruction)


class SimPrompt(Method):
    """Plans one item per draw, labels in turn, without end; every item of a label has the same prompt."""

    def __init__(self, settings: MethodSettings, task: Task, instruction: str) -> None:
        super().__init__(settings, task)
        only_text(task)
        self._raw = settings.render == "raw"
        self._sampling = replace(self.sampling, stop=stops(task.settings.text_type) + settings.stop)
        self._instruction = instruction
        self._rng = random.Random()
        for label in task.labels:
            # A template that fails has to fail here, not in every item of the night.
            render(instruction, **task_values(task.settings, task.verbalizer(label)))

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        pools, position = self.pools(sources), count()
        labels = [(label,) for label in self.task.labels]
        for draw in count():
            for label in labels:
                place = next(position)
                yield Slot(place, label, partial(self._item, round, place, label, draw, pools))

    def pools(self, sources: Sources) -> Pools:
        """Return the attributes that are drawn: none."""
        return {label: {} for label in self.task.labels}

    def _item(self, round: int, position: int, labels: tuple[str, ...], draw: int, pools: Pools) -> Item:
        drawn: dict[str, str] = {}
        if pool := pools[labels[0]]:
            self._rng.seed(digest([self.plan_key, round, labels[0], draw]))
            drawn = {name: self._rng.choice(values) for name, values in pool.items()}
        return make_item(self.plan_key, round, position, labels, draw=draw, attributes=drawn)

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        reply = await generate(self.prompt(item), self._sampling)
        return read_reply(reply, item.labels[0], [self.task.settings.text_type])

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item: the request, and in a chat that nothing else is wanted."""
        text = self.request(item)
        if self._raw:
            return f"{text}\n\n{self.task.settings.text_type}:"
        return chat([], f"{text}\n\n{render(CLOSING, text_type=self.task.settings.text_type)}")

    def request(self, item: Item) -> str:
        """Return what is asked for."""
        values = task_values(self.task.settings, self.task.verbalizer(item.labels[0]))
        return render(self._instruction, **values)
