"""FewGen: ask for a text of a label, with 0 to 32 gold texts of it as shots (2405.10040, section 4)."""

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache, partial
from itertools import count
from typing import Literal

from pydantic import field_validator

from cluster.errors import SettingsError
from cluster.settings import digest
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    ShotSettings,
    Slot,
    Sources,
    only_text,
)
from synth.prompting import chat, read_reply, render, stops, task_values
from synth.records import Example, Item, Prompt, Rejection, Shot, make_item
from synth.task import Task

INSTRUCTION = """\
Write {{ text_type | lower | article }} about {{ verbalizer }}.\
{% if length %} It is {{ length }} long.{% endif %}{% if style %} Style: {{ style }}.{% endif %}"""

PROMPT = """\
{% for shot in shots %}{{ ask }}
{{ text_type }}: {{ shot }}

{% endfor %}{{ ask }}
"""


class FewGenSettings(MethodSettings):
    """FewGen. `published_code` keeps every piece of a completion and sets no stop strings."""

    presets = {"published_code": {"pieces": "all", "header_stops": False}}

    name: Literal["fewgen"] = "fewgen"
    shots: ShotSettings = ShotSettings(count=0)
    """Gold texts shown; 0 and 32 in the paper (Table 6). More than 0 needs seeds."""
    pieces: Literal["first", "all"] = "first"
    """Which pieces of a completion that runs on become examples; published code: all."""
    header_stops: bool = True
    """Stop at the header of another text; published code sets no stop strings."""
    instruction: str = INSTRUCTION
    """Jinja template of the request; may name text_type, verbalizer, length, style."""

    @field_validator("shots")
    @classmethod
    def _counted(cls, shots: ShotSettings) -> ShotSettings:
        return shots if shots.count is not None else shots.model_copy(update={"count": 0})

    def build(self, task: Task) -> Method:
        return FewGen(self, task)


class FewGen(Method):
    """Plans one item per draw, labels in turn, without end."""

    def __init__(self, settings: FewGenSettings, task: Task) -> None:
        super().__init__(settings, task)
        only_text(task)
        self.settings = settings
        headers = stops(task.settings.text_type) if settings.header_stops else ()
        self._sampling = replace(self.sampling, stop=headers + settings.stop)
        self._count, self._rng = settings.shots.count or 0, random.Random()
        # Items that share their shots are built one after the other.
        self._shots = lru_cache(1024)(self._draw_shots) if settings.shots.reuse > 1 else self._draw_shots
        self.shots_of = {label: [Shot(s.id, s.text) for s in task.seeds_of(label)] for label in task.labels}
        for label, shots in self.shots_of.items():
            # A template that fails has to fail here, not in every item of the night.
            render(settings.instruction, **task_values(task.settings, task.verbalizer(label)))
            if len(shots) < self._count:
                raise SettingsError(
                    f"method.shots: {self._count} shots are asked for, label {label} has {len(shots)} "
                    "seeds; add seeds or lower method.shots"
                )

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        position, reuse = count(), self.settings.shots.reuse
        labels = [(label,) for label in self.task.labels]
        for first in count(step=reuse):
            for label in labels:
                for draw in range(first, first + reuse):
                    place = next(position)
                    yield Slot(place, label, partial(self._item, round, place, label, draw))

    def _item(self, round: int, position: int, labels: tuple[str, ...], draw: int) -> Item:
        first = draw - draw % self.settings.shots.reuse
        shots = self._shots(round, labels[0], first) if self._count else ()
        return make_item(self.plan_key, round, position, labels, draw=draw, shots=shots)

    def _draw_shots(self, round: int, label: str, draw: int) -> tuple[Shot, ...]:
        """Draw anew from the same label, as the published code does, but seeded."""
        self._rng.seed(digest([self.plan_key, round, label, draw]))
        return tuple(self._rng.sample(self.shots_of[label], self._count))

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        header = self.task.settings.text_type
        reply = await generate(self.prompt(item), self._sampling)
        return read_reply(reply, item.labels[0], [header], self.settings.pieces)

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item; as a chat, every shot is an earlier turn."""
        values = task_values(self.task.settings, self.task.verbalizer(item.labels[0]))
        ask = render(self.settings.instruction, **values)
        if self.settings.render == "chat":
            return chat([(ask, shot.text) for shot in item.shots], ask)
        text = render(PROMPT, ask=ask, shots=[shot.text for shot in item.shots], **values)
        return f"{text}\n{self.task.settings.text_type}:"
