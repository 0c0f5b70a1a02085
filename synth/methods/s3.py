"""S3: texts from rationales, then one like each gold row that a student gets wrong, in rounds (2310.13671).

The generation code was never published, and the paper states neither how many rationales there are nor its
prompts' sampling beyond the temperature: such numbers, and all prompts, are choices of this project.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from math import ceil
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from cluster.errors import SettingsError
from cluster.settings import digest
from synth.fields import written_field
from synth.listing import Stage, stages
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    Round,
    SamplingSettings,
    Slot,
    Sources,
    Tools,
)
from synth.prompting import chat, read_reply, render, stops, task_values
from synth.records import Example, Item, Prompt, Rejection, Shot, make_item
from synth.task import Task

RATIONALES = """\
We collect texts for this task: {{ instruction }}

Think of {{ text_type | lower | article }} with the label {{ label }}: {{ verbalizer }}.
Write a numbered list of {{ count }} different reasons for which a reader would give \
{{ text_type | lower | article }} this label. A few words each, one per line, and nothing else."""

SEED = """\
{% if context %}We collect examples for this task: {{ instruction }}

{{ context_header }}: {{ context }}

Write the {{ header | lower }} that belongs to it\
{% if kind | lower != header | lower %} ({{ kind }}){% endif %}, so that both together fit this description: \
{{ verbalizer }}.\
{% else %}Write one {{ header | lower }} that fits this description: {{ verbalizer }}.{% endif %}\
{% if length %} Length: {{ length }}.{% endif %}{% if style %} Style: {{ style }}.{% endif %}\
{% if rationales %}
A reader has to see that it fits for {{ "this reason" if rationales | length == 1 else "these reasons" }}:\
{% for rationale in rationales %}
- {{ rationale }}{% endfor %}{% endif %}"""

ERROR = """\
{% if context %}We collect examples for this task: {{ instruction }}

{{ context_header }}: {{ context }}
{% endif %}{{ header }}: {{ shown }}

This {{ header | lower }} fits this description: {{ verbalizer }}. \
Write another {{ header | lower }}{% if context %} for the {{ context_header | lower }} above{% endif %} \
that fits it as well: similar to this one, but in other words and with other details.\
{% if length %} Length: {{ length }}.{% endif %}{% if style %} Style: {{ style }}.{% endif %}"""

FORM = "Answer with the {{ header | lower }} alone: no heading, no label, no comment."

RATIONALE = "rationale_"
"""Begins the names of the attributes that hold an item's rationales."""
RATIONALE_LETTERS = 200
"""A longer rationale has run away."""
REMEDY = (
    "take a larger teacher, one that follows instructions, or more method.list_tokens; method.rationales=0 "
    "does without"
)


class S3Sampling(SamplingSettings):
    """How the teacher samples."""

    temperature: float = Field(0.9, ge=0, le=5)
    """0.9, with nucleus sampling whose p is not stated."""


class S3Settings(MethodSettings):
    """S3. It has no preset `published_code`: the code that generates was not published."""

    for_more = "raise method.repeats or method.seed_share, or give more gold rows to look at"

    name: Literal["s3"] = "s3"
    sampling: S3Sampling = S3Sampling()
    """How the teacher samples rationales and texts."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, for a teacher that follows instructions as the paper's did."""
    rationales: int = Field(10, ge=0, le=200)
    """Reasons for each label that are listed first, in one call; 0 does without. The number is ours."""
    shown: int = Field(3, ge=1, le=200)
    """Rationales drawn for a prompt, or as many as there are; the number is ours."""
    list_tokens: int = Field(600, ge=1)
    """Tokens of a list of rationales; what is cut off loses its last entry."""
    attempts: int = Field(3, ge=1, le=10)
    """Replies asked for until a list can be read."""
    context_field: str | None = None
    """Field that is taken from the seeds, whatever their label, for tasks of two fields; the teacher writes
    the other one. There are no rationales then (section 3)."""
    error_rounds: int = Field(2, ge=0, le=20)
    """Rounds that follow a student's errors (section 4)."""
    seed_share: float = Field(2 / 3, gt=0, le=1)
    """Share of the rows that are written first: 15,000 of 21,000 for IMDb, and two thirds on average (table
    6). The rest is shared out evenly among the rounds."""
    look_at: Literal["train", "seeds"] = "train"
    """Gold rows that a student is tried on and whose texts the teacher is shown: those of `task.train`, as in
    the paper, or the seeds. The gold test rows never are."""
    repeats: int = Field(1, ge=1)
    """Texts for each error; 1 in the paper. More follow where the rows of a round are not there yet."""
    rationale_request: str = RATIONALES
    """Jinja template; may name count, instruction, label, text_type, verbalizer."""
    seed_request: str = SEED
    """Jinja template; may name instruction, verbalizer, label, header and kind (of what is written),
    rationales, context, context_header, text_type, length, style."""
    error_request: str = ERROR
    """Jinja template; may name what seed_request may, but for rationales `shown`, the text that a student got
    wrong."""

    def wants_seeds(self) -> bool:
        tried = self.error_rounds > 0 and self.look_at == "seeds"
        return tried or self.context_field is not None

    def looks_at(self) -> Literal["train", "seeds"]:
        return self.look_at

    def rounds(self, targets: Mapping[str, int]) -> Sequence[Round]:
        """Return the round of the seed stage, and even steps from there to the targets."""
        if not self.error_rounds:
            return [Round(targets)]
        # 5 * 0.6 is a hair above 3.
        first = {label: ceil(round(n * self.seed_share, 6)) for label, n in targets.items()}
        steps = range(1, self.error_rounds + 1)
        reached = (
            {label: first[label] - (first[label] - n) * step // steps[-1] for label, n in targets.items()}
            for step in steps
        )
        return [Round(first), *(Round(each, ("errors",)) for each in reached)]

    def build(self, task: Task) -> Method:
        return S3(self, task)


class S3(Method):
    """Plans the seed stage without end, labels in turn, and in later rounds `repeats` items per error."""

    def __init__(self, settings: S3Settings, task: Task) -> None:
        super().__init__(settings, task)
        self.settings, self._rng = settings, random.Random()
        self._given = settings.context_field
        self._field = written_field(task, self._given, "context_field")
        self._header, self._context_header = _header(task, self._field), _header(task, self._given or "")
        headers = stops(self._header) if settings.render == "raw" else ()
        self._sampling = replace(self.sampling, stop=headers + settings.stop)
        self._list_sampling = replace(self.sampling, max_tokens=settings.list_tokens, stop=settings.stop)
        if settings.error_rounds and settings.look_at == "train" and task.settings.train is None:
            raise SettingsError(
                "method.look_at: train: task.train names no file of gold rows; name one, or let the student "
                "be tried on the seeds: method.look_at=seeds"
            )
        context = None if self._given is None else "A text."
        for label in task.labels:
            # A template that fails has to fail here, not in every item of the night.
            self.rationales_prompt(label)
            self._prompt(settings.seed_request, label, context, rationales=["A reason"])
            self._prompt(settings.error_request, label, context, shown="A text.")

    async def prepare(self, tools: Tools) -> Sources:
        settings = self.settings
        if not settings.rationales or self._given is not None:
            return {}
        labels, stage = self.task.labels, Stage("rationales", settings.rationales * len(self.task.labels))
        lists = await asyncio.gather(*(self._listed(tools.generate, label, stage) for label in labels))
        rows = [(label, each) for label, found in zip(labels, lists, strict=True) for each in found]
        if not rows:
            raise stage.failed(REMEDY)
        columns = dict(zip(("label", "rationale"), map(list, zip(*rows, strict=True)), strict=True))
        return {"rationales": pa.table(columns), "stages": stages(stage)}

    async def _listed(self, generate: Generate, label: str, stage: Stage) -> list[str]:
        settings, prompt = self.settings, self.rationales_prompt(label)
        most, attempts = settings.rationales, settings.attempts
        return await stage.listed(generate, prompt, self._list_sampling, most, RATIONALE_LETTERS, attempts)

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        return self._error_plan(round, feedback) if round else self._seed_plan(sources)

    def _seed_plan(self, sources: Sources) -> Iterator[Slot]:
        position, lists = count(), _lists(sources)
        labels = [((label,), lists.get(label, [])) for label in self.task.labels]
        for draw in count():
            for label, rationales in labels:
                place = next(position)
                yield Slot(place, label, partial(self._seed_item, place, label, draw, rationales))

    def _seed_item(
        self, position: int, labels: tuple[str, ...], draw: int, rationales: Sequence[str]
    ) -> Item:
        self._rng.seed(digest([self.plan_key, labels[0], draw]))
        if self._given is not None:
            seed = self._rng.choice(self.task.seeds)
            given = {"context": seed.fields[self._given]}
            return make_item(self.plan_key, 0, position, labels, draw=draw, seed_id=seed.id, attributes=given)
        drawn = self._rng.sample(rationales, min(self.settings.shown, len(rationales)))
        given = {f"{RATIONALE}{number}": each for number, each in enumerate(drawn, 1)}
        return make_item(self.plan_key, 0, position, labels, draw=draw, attributes=given)

    def _error_plan(self, round: int, feedback: Feedback) -> Iterator[Slot]:
        rows = feedback["errors"].combine_chunks()
        order = list(range(rows.num_rows))
        random.Random(digest([self.plan_key, round])).shuffle(order)
        labels, position = rows["label"].to_pylist(), count()
        for draw in range(self.settings.repeats):
            for at in order:
                place, label = next(position), (labels[at],)
                yield Slot(place, label, partial(self._error_item, round, place, label, draw, rows, at))

    def _error_item(
        self, round: int, position: int, labels: tuple[str, ...], draw: int, rows: pa.Table, at: int
    ) -> Item:
        gold, fields = rows["id"][at].as_py(), self.task.settings.fields
        row = {name: rows[name][at].as_py() for name in fields}
        # As a shot, filters refuse what copies it.
        shots = (Shot(gold, self.task.as_one_text(row)),)
        given = {"shown": row[self._field]}
        if self._given is not None:
            given["context"] = row[self._given]
        return make_item(
            self.plan_key, round, position, labels, draw=draw, seed_id=gold, shots=shots, attributes=given
        )

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        reply = await generate(self.prompt(item), self._sampling)
        outcomes = read_reply(reply, item.labels[0], [self._header])
        return [self._whole(item, each) if isinstance(each, Example) else each for each in outcomes]

    def _whole(self, item: Item, example: Example) -> Example:
        """Return an example with all fields of the task, in their order."""
        said = {self._field: example.fields["text"]}
        if self._given is not None:
            said[self._given] = item.attributes["context"]
        return replace(example, fields={name: said[name] for name in self.task.settings.fields})

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item."""
        given, label = item.attributes, item.labels[0]
        context, shown = given.get("context"), given.get("shown")
        if shown is not None:
            return self._prompt(self.settings.error_request, label, context, shown=shown)
        rationales = [text for name, text in given.items() if name.startswith(RATIONALE)]
        return self._prompt(self.settings.seed_request, label, context, rationales=rationales)

    def _prompt(self, template: str, label: str, context: str | None, **more: Any) -> Prompt:
        names = {"header": self._header, "context_header": self._context_header}
        values = {**task_values(self.task.settings, self.task.verbalizer(label)), **names, **more}
        values |= {"kind": self.task.settings.what(self._field), "context": context, "label": label}
        text = f"{render(template, **values)}\n{render(FORM, **values)}"
        return f"{text}\n\n{self._header}:" if self.settings.render == "raw" else chat([], text)

    def rationales_prompt(self, label: str) -> Prompt:
        """Return the prompt for a list of the reasons that a text has a label for."""
        values = {**task_values(self.task.settings, self.task.verbalizer(label)), "label": label}
        text = render(self.settings.rationale_request, count=self.settings.rationales, **values)
        return f"{text}\n\n1." if self.settings.render == "raw" else chat([], text)


def _lists(sources: Sources) -> dict[str, list[str]]:
    """Return the rationales of each label that has some."""
    lists: dict[str, list[str]] = {}
    for row in sources["rationales"].to_pylist() if "rationales" in sources else ():
        lists.setdefault(row["label"], []).append(row["rationale"])
    return lists


def _header(task: Task, field: str) -> str:
    """Return what heads a field in a prompt."""
    return task.settings.text_type if field == "text" else field.replace("_", " ").capitalize()
