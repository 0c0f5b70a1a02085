"""AttrPrompt: texts of a label with attributes drawn at random (2306.15895).

The teacher is asked first in which ways such texts differ, and for values; values that would suit a similar
label too are dropped. Then every item has a value of each attribute, drawn independently of the others.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from cluster.errors import RunError
from synth.attributes import (
    AttributeSettings,
    Value,
    attribute_table,
    kept_values,
    similar_table,
    stage_table,
    words,
)
from synth.inquiry import Inquiry, Wanted
from synth.method import Method, MethodSettings, SamplingSettings, Sources, Tools
from synth.methods.simprompt import INSTRUCTION, Pools, SimPrompt, WritingSampling
from synth.prompting import render, task_values
from synth.records import Item, Sampling
from synth.task import Task

REQUIREMENTS = """\
{{ ask }}

Requirements:
{% for name, value in drawn.items() %}{{ loop.index }}. {{ name }}: {{ value }}
{% endfor %}{{ drawn | length + 1 }}. It is clearly about {{ verbalizer }}\
{% if similar %}
{{ drawn | length + 2 }}. It has nothing to do with any of these: {{ similar | join("; ") }}{% endif %}"""

LENGTH = "length"
SIMILAR = "similar"
"""Name among an item's attributes of the labels its text must keep away from, as a JSON list."""
SPAN = 50
"""Words by which a text may be longer than the length drawn for it."""


class AskingSampling(SamplingSettings):
    """How the teacher samples attributes and their values."""

    temperature: float = Field(0.7, ge=0, le=5)
    """0.7, as in the filter of the published code."""
    top_p: float = Field(0.95, gt=0, le=1)
    """0.95, as in the filter of the published code."""
    max_tokens: int = Field(600, ge=8)
    """Reply tokens of a list; a verdict of the filter has at most 128 (published code)."""


class AttrPromptSettings(MethodSettings):
    """AttrPrompt. `published_code` has a catch-all value for each attribute and allows longer replies."""

    presets = {"published_code": {"sampling": {"max_tokens": 2048}, "others": True}}

    name: Literal["attrprompt"] = "attrprompt"
    sampling: WritingSampling = WritingSampling()
    """How the teacher samples texts."""
    asking: AskingSampling = AskingSampling()
    """How it samples attributes and their values."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, as in the paper; `raw`: a plain continuation."""
    instruction: str = INSTRUCTION
    """Jinja template of the first lines; may name text_type, verbalizer, length, style."""
    attributes: dict[str, AttributeSettings] | None = None
    """Ways in which texts differ, chosen by a person in the paper; without it the teacher proposes some."""
    dimensions: int = Field(4, ge=1, le=20)
    """Attributes that the teacher proposes at most, beside the length."""
    values: int = Field(10, ge=2, le=50)
    """Values asked for of an attribute; ten and more in the paper."""
    lengths: tuple[int, ...] = (30, 100)
    """Fewest words of a text, one of them drawn for each; 30 and 100 in the paper, and at most 50 words more.
    Not drawn when the task gives a length or `attributes` has one."""
    similar: int = Field(5, ge=0)
    """Closest other labels, which a text must keep away from; 5 in the paper."""
    drops: int = Field(5, ge=0)
    """Values of a label that the filter drops at most; 5 in the published code. 0 leaves the filter out."""
    others: bool = False
    """Give each attribute one value more, for all that is not listed (published code)."""
    attempts: int = Field(3, ge=1, le=10)
    """Replies asked for, while attributes are prepared, until one can be read."""

    @field_validator("attributes")
    @classmethod
    def _named(cls, given: dict[str, AttributeSettings] | None) -> dict[str, AttributeSettings] | None:
        if given is not None and not given:
            raise ValueError("give at least one, or leave attributes out and the teacher proposes some")
        names = [" ".join(words(name).casefold().split()) for name in given or {}]
        if wrong := [name for name in names if name in ("", SIMILAR) or names.count(name) > 1]:
            raise ValueError(f"{wrong[0]!r} is empty, taken or there twice; give each a name of its own")
        return given

    @field_validator("lengths")
    @classmethod
    def _positive(cls, lengths: tuple[int, ...]) -> tuple[int, ...]:
        if any(fewest < 1 for fewest in lengths):
            raise ValueError("a text has at least one word; give numbers above 0, or [] for no length")
        return lengths

    def build(self, task: Task) -> Method:
        return AttrPrompt(self, task)


class AttrPrompt(SimPrompt):
    """Plans as SimPrompt does, with attributes drawn for every item."""

    def __init__(self, settings: AttrPromptSettings, task: Task) -> None:
        super().__init__(settings, task, settings.instruction)
        self.settings = settings
        given = settings.attributes or {}
        self._given = [each.dimension(name, task.labels) for name, each in given.items()]

    async def prepare(self, tools: Tools) -> Sources:
        settings, labels = self.settings, self.task.labels
        inquiry = Inquiry(self.task, self._wanted(), tools.generate)
        dimensions = self._given or await inquiry.dimensions(self._fixed())
        own = [each for each in dimensions if each.by_label]
        shared = [each for each in dimensions if not each.by_label]
        of_labels, of_all = await asyncio.gather(
            asyncio.gather(*(inquiry.of_label(own, label) for label in labels)),
            asyncio.gather(*(inquiry.values(each, None, ()) for each in shared)),
        )
        values = [value for group in of_all for value in group]
        values += [value for _, group in of_labels for value in group]
        if not any(value.kept for value in values):
            raise RunError(_nothing_left(values, inquiry))
        names = [each.name for each in dimensions]
        if settings.others:
            values += _others(values)
        lengths = [Value(None, LENGTH, between(fewest)) for fewest in self._lengths(names)]
        return {
            "attributes": attribute_table([*values, *lengths], [*names, LENGTH]),
            "similar": similar_table({label: one for label, (one, _) in zip(labels, of_labels, strict=True)}),
            "stages": stage_table(inquiry.stages),
        }

    def pools(self, sources: Sources) -> Pools:
        """Return the values that are left; the similar labels are an attribute of one value."""
        found = kept_values(sources["attributes"], self.task.labels)
        near: dict[str, list[str]] = {}
        for row in sources["similar"].to_pylist():
            near.setdefault(row["label"], []).append(row["similar"])
        for label, names in near.items():
            found[label][SIMILAR] = [json.dumps(names, ensure_ascii=False)]
        return found

    def request(self, item: Item) -> str:
        settings, drawn = self.task.settings, dict(item.attributes)
        similar = [self.task.verbalizer(label) for label in json.loads(drawn.pop(SIMILAR, "[]"))]
        values = dict(task_values(settings, self.task.verbalizer(item.labels[0])))
        # What an attribute says of length or style stands in place of the task's own words.
        values |= {name.casefold(): None for name in drawn if name.casefold() in ("length", "style")}
        ask = render(self.settings.instruction, **values)
        if not drawn and not similar:
            return ask
        shown = {name[:1].upper() + words(name)[1:]: value for name, value in drawn.items()}
        return render(REQUIREMENTS, ask=ask, drawn=shown, similar=similar, **values)

    def _wanted(self) -> Wanted:
        settings, asking = self.settings, self.settings.asking
        return Wanted(
            dimensions=settings.dimensions,
            values=settings.values,
            similar=settings.similar,
            drops=settings.drops,
            attempts=settings.attempts,
            sampling=Sampling(asking.temperature, asking.top_p, asking.max_tokens),
            raw=settings.render == "raw",
        )

    def _fixed(self) -> list[str]:
        """Return what the teacher shall not propose: what is the same in all texts, or drawn anyway."""
        return [LENGTH, "style"] if self.task.settings.style else [LENGTH]

    def _lengths(self, names: Sequence[str]) -> Sequence[int]:
        given = self.task.settings.length or LENGTH in map(str.casefold, names)
        return () if given else self.settings.lengths


def between(fewest: int) -> str:
    """Return a length in words of the prompt."""
    return f"between {fewest} and {fewest + SPAN} words"


def _others(values: Sequence[Value]) -> list[Value]:
    """Return for each attribute of each label the value that stands for all that are not listed."""
    listed: dict[tuple[str | None, str], list[str]] = {}
    for value in values:
        if value.kept:
            listed.setdefault((value.label, value.attribute), []).append(value.value or "")
    return [Value(label, name, f"other than {'; '.join(kept)}") for (label, name), kept in listed.items()]


def _nothing_left(values: Sequence[Value], inquiry: Inquiry) -> str:
    stage = (values[0].reason or "").partition(":")[0] if values else "dimensions"
    wrote = inquiry.stages[stage].last[:200]
    remedy = "give values in method.attributes, or take a larger teacher"
    if stage == "value filter":
        remedy = "lower method.drops, or raise method.values"
    return f"prepare: {stage}: no attribute has a value left; the teacher wrote {wrote!r}; {remedy}"
