"""TarGEN: contexts, sentences in them, an example of a label around each, and a second look (2310.17876).

Contexts and sentences ("instance seeds") are listed by the teacher before anything is planned. Each item then
costs two calls: one writes all fields of an example for a label, the other says which label they really have.
"""

import asyncio
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, count, zip_longest
from math import ceil
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from cluster.errors import SettingsError
from cluster.settings import digest
from synth.fields import described, fields_structure, shown
from synth.listing import Stage, stages
from synth.method import (
    Feedback,
    Generate,
    Method,
    MethodSettings,
    SamplingSettings,
    Slot,
    Sources,
    Tools,
)
from synth.prompting import chat, render, task_values
from synth.records import Example, Item, Prompt, Rejection, Sampling, Shot, make_item
from synth.structured import Unparsed, ask, json_structure, read
from synth.task import Task

CONTEXTS = """\
We collect varied texts for this task: {{ instruction }}

{% if known %}These topics are taken: {{ known | join("; ") }}.
{% endif %}Write a numbered list of {{ count }} {% if known %}other {% endif %}very different topics and \
situations that {{ text_type | lower | article }} can be about. One per line, a few \
words each, and nothing else."""

SEEDS = """\
We collect varied texts for this task: {{ instruction }}

Write a numbered list of {{ count }} different sentences about this topic: {{ context }}
Each is plain and complete in itself, and {{ text_type | lower | article }} can be built around it. One per \
line, and nothing else."""

GENERATION = """\
The task: {{ instruction }}

Write one example for this task. It has these parts:
{{ parts }}
{% if length %}The {{ text_type | lower }} is {{ length }} long.
{% endif %}{% if style %}Style: {{ style }}.
{% endif %}
Its label has to be {{ label }}: {{ verbalizer }}.
{% for demonstration in demonstrations %}
An example with this label:
{{ demonstration }}
{% endfor %}
Topic: {{ context }}
Build the new example around this sentence: {{ seed }}
{% if variant %}{{ variant }}
{% endif %}
First explain in one sentence what gives it the label {{ label }}, then write the parts, which say nothing \
about labels.
Answer as JSON: {{ form }}"""

CORRECTION = """\
The task: {{ instruction }}

The labels:
{% for name, phrase in labels.items() %}- {{ name }}: {{ phrase }}
{% endfor %}
An example:
{{ example }}

It was given the label {{ label }}, which may be wrong. Read it again, explain in one sentence which label \
it has, then give that label.
Answer as JSON: {{ form }}"""

CONTEXT_LETTERS, SEED_LETTERS, EXPLANATION_LETTERS = 120, 600, 600
"""Longest context, instance seed and explanation; longer ones have run away."""
SHOWN = 100
"""Contexts, found by earlier calls, that a call is told to leave out."""
MORE = 2
"""Calls for contexts beyond those needed, when lists are short or hold what is known."""
REMEDY = "take a larger teacher, one that follows instructions, or more method.list_tokens"


class TarGENSampling(SamplingSettings):
    """How the teacher samples."""

    temperature: float = Field(0.7, ge=0, le=5)
    """0.7: the paper names none, and its code leaves LangChain's default of the time."""
    top_p: float = Field(1.0, gt=0, le=1)
    """1: as for the temperature."""
    max_tokens: int = Field(512, ge=1)
    """Tokens of an example with all its fields and the explanation."""


class TarGENSettings(MethodSettings):
    """TarGEN. `published_code` takes one sentence per context, and 100 of them."""

    presets = {"published_code": {"contexts": 100, "seeds_per_context": 1}}

    stages = ("generation", "correction")

    name: Literal["targen"] = "targen"
    sampling: TarGENSampling = TarGENSampling()
    """How the teacher samples lists and examples; corrections are greedy, so that they can be repeated."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, as in the paper; `raw`: plain continuations."""
    contexts: int = Field(40, ge=1, le=2000)
    """Topics and situations that texts are about; the paper names no number."""
    contexts_per_call: int = Field(20, ge=1, le=200)
    """Contexts asked for in one call; each further call is shown those found before."""
    seeds_per_context: int = Field(20, ge=1, le=200)
    """Sentences listed in the one call for each context; published code: 1."""
    list_tokens: int = Field(1000, ge=1)
    """Tokens of a list; what is cut off loses its last entry."""
    demonstrations: int = Field(0, ge=0, le=16)
    """Seeds of the label shown in every prompt, always the same. The published prompts hold two that were
    written by hand; 0 needs no seeds."""
    variants: tuple[str, ...] = ()
    """Further requests, of which each item of a label gets the next one: cause and effect for COPA, for
    example, between which the published code draws."""
    correct: bool = True
    """Ask which label an example really has; without it, an example costs one call."""
    then: Literal["replace", "reject", "record"] = "replace"
    """What becomes of an example that has another label than was asked for: it gets that label (the paper),
    is rejected, or keeps the one asked for. `extra` tells in any case."""
    unread: Literal["reject", "keep"] = "reject"
    """What becomes of an example about which nothing readable was said."""
    correction_tokens: int = Field(200, ge=8)
    """Tokens of a correction."""
    attempts: int = Field(3, ge=1, le=10)
    """Replies asked for until a list or a correction can be read. An example is asked for once: a reply that
    cannot be read is a rejection."""

    def wants_seeds(self) -> bool:
        return self.demonstrations > 0

    def build(self, task: Task) -> Method:
        return TarGEN(self, task)


class TarGEN(Method):
    """Plans sentence by sentence, contexts in turn, for labels in turn, without end."""

    def __init__(self, settings: TarGENSettings, task: Task) -> None:
        super().__init__(settings, task)
        self.settings = settings
        self._sampling = replace(self.sampling, stop=settings.stop)
        self._list_sampling = replace(self._sampling, max_tokens=settings.list_tokens)
        self._check_sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=settings.correction_tokens)
        # The task may have a field of this name.
        self._why = _apart("explanation", task.settings.fields)
        self._fields = fields_structure(
            task, **{self._why: {"type": "string", "maxLength": EXPLANATION_LETTERS}}
        )
        self._verdict = json_structure(_verdict_schema(task.labels))
        self._demonstrations = {
            label: task.seeds_of(label)[: settings.demonstrations] for label in task.labels
        }
        for label, seeds in self._demonstrations.items():
            if len(seeds) < settings.demonstrations:
                raise SettingsError(
                    f"method.demonstrations: {settings.demonstrations} are asked for, label {label} has "
                    f"{len(seeds)} seeds; add seeds or lower method.demonstrations"
                )

    async def prepare(self, tools: Tools) -> Sources:
        settings, first, second = self.settings, Stage("contexts"), Stage("instance seeds")
        contexts = await self._contexts(tools.generate, first)
        if not contexts:
            raise first.failed(REMEDY)
        second.asked = settings.seeds_per_context * len(contexts)
        found = await asyncio.gather(*(self._seeds(tools.generate, each, second) for each in contexts))
        rows = [(context, seed) for context, some in zip(contexts, found, strict=True) for seed in some]
        if not rows:
            raise second.failed(REMEDY)
        columns = dict(zip(("context", "seed"), map(list, zip(*rows, strict=True)), strict=True))
        return {
            "contexts": pa.table({"context": contexts}),
            "seeds": pa.table(columns),
            "stages": stages(first, second),
        }

    async def _contexts(self, generate: Generate, stage: Stage) -> list[str]:
        """Ask call after call, each shown what came before; a few more than needed, if some give little."""
        settings, found = self.settings, dict[str, str]()
        stage.asked = settings.contexts
        for _ in range(ceil(settings.contexts / settings.contexts_per_call) + MORE):
            most = min(settings.contexts_per_call, settings.contexts - len(found))
            prompt = self.contexts_prompt(most, list(found.values())[-SHOWN:])
            attempts, sampling = settings.attempts, self._list_sampling
            new = await stage.listed(generate, prompt, sampling, most, CONTEXT_LETTERS, attempts, found)
            found.update((entry.casefold(), entry) for entry in new)
            if not new or len(found) == settings.contexts:
                break
        return list(found.values())

    async def _seeds(self, generate: Generate, context: str, stage: Stage) -> list[str]:
        prompt, most = self.seeds_prompt(context), self.settings.seeds_per_context
        attempts, sampling = self.settings.attempts, self._list_sampling
        return await stage.listed(generate, prompt, sampling, most, SEED_LETTERS, attempts)

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        rows = list(zip(*(sources["seeds"][name].to_pylist() for name in ("context", "seed")), strict=True))
        order, labels = self._order(rows, round), [(label,) for label in self.task.labels]
        # Labels begin apart, so that none meets a seed of another one's before it has to.
        starts = [len(order) * each // len(labels) for each in range(len(labels))]
        position = count()
        for number in count():
            for label, start in zip(labels, starts, strict=True):
                place = next(position)
                yield Slot(place, label, partial(self._item, round, place, label, order, start, number))

    def _order(self, rows: Sequence[tuple[str, str]], round: int) -> list[tuple[str, str]]:
        """Return all seeds in the order of a round: contexts take turns, so that each is as likely."""
        rng = random.Random(digest([self.plan_key, round]))
        groups: dict[str, list[tuple[str, str]]] = {}
        for row in rng.sample(rows, len(rows)):
            groups.setdefault(row[0], []).append(row)
        turns = chain.from_iterable(zip_longest(*groups.values()))
        return [row for row in turns if row is not None]

    def _item(
        self,
        round: int,
        position: int,
        labels: tuple[str, ...],
        order: Sequence[tuple[str, str]],
        start: int,
        number: int,
    ) -> Item:
        context, seed = order[(start + number) % len(order)]
        given = {"context": context, "seed_sentence": seed}
        draw = number // len(order)
        if variants := self.settings.variants:
            # A seed's next draw has the next variant, even where the seeds are a multiple of the variants.
            given["variant"] = variants[(number % len(order) + draw) % len(variants)]
        seeds = self._demonstrations[labels[0]]
        shots = tuple(Shot(gold.id, self.task.as_one_text(gold.fields)) for gold in seeds)
        return make_item(self.plan_key, round, position, labels, draw=draw, shots=shots, attributes=given)

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        label = item.labels[0]
        held = replace(self._sampling, structure=self._fields)
        reply = await generate(self.prompt(item), held)
        value = read(reply.text, self._fields, whole=reply.finish_reason != "length")
        if isinstance(value, Unparsed):
            return [Rejection(f"generation: {value.reason}", value.text, label)]
        fields = {name: str(value[name]).strip() for name in self.task.settings.fields}
        if not all(any(letter.isalnum() for letter in text) for text in fields.values()):
            # A small model copies the form with its dots.
            return [Rejection("generation: empty", reply.text, label)]
        example = Example(fields, label, {"explanation": str(value[self._why]).strip()})
        return [await self._corrected(example, label, generate) if self.settings.correct else example]

    async def _corrected(self, example: Example, label: str, generate: Generate) -> Example | Rejection:
        settings, prompt = self.settings, self.correction_prompt(example.fields, label)
        answer = await ask(generate, prompt, self._check_sampling, self._verdict, settings.attempts)
        text = "\n".join(example.fields.values())
        if isinstance(answer.value, Unparsed):
            if settings.unread == "reject":
                return Rejection(f"correction: {answer.value.reason}", text, label)
            return _telling(example, asked_label=label, relabelled="unknown")
        found = str(answer.value["label"])
        if found != label and settings.then == "reject":
            return Rejection("correction: relabelled", text, label)
        told = _telling(
            example,
            asked_label=label,
            corrected_label=found,
            relabelled="no" if found == label else "yes",
            correction=str(answer.value["explanation"]).strip(),
        )
        return replace(told, label=found) if settings.then == "replace" else told

    def contexts_prompt(self, number: int, known: Sequence[str] = ()) -> Prompt:
        """Return the prompt for so many contexts beside those known."""
        return self._prompt(CONTEXTS, "\n\n1.", count=number, known=list(known))

    def seeds_prompt(self, context: str) -> Prompt:
        """Return the prompt for the instance seeds of a context."""
        return self._prompt(SEEDS, "\n\n1.", count=self.settings.seeds_per_context, context=context)

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt for an item's example."""
        label = item.labels[0]
        return self._prompt(
            GENERATION,
            "\n\nJSON:",
            label,
            parts=described(self.task),
            demonstrations=[shown(gold.fields) for gold in self._demonstrations[label]],
            context=item.attributes["context"],
            seed=item.attributes["seed_sentence"],
            variant=item.attributes.get("variant", ""),
            form=_form(self._why, *self.task.settings.fields),
        )

    def correction_prompt(self, fields: Mapping[str, str], label: str) -> Prompt:
        """Return the prompt that asks which label an example really has."""
        labels = dict(self.task.settings.labels)
        form = _form("explanation", "label")
        return self._prompt(CORRECTION, "\n\nJSON:", label, labels=labels, example=shown(fields), form=form)

    def _prompt(self, template: str, cue: str, label: str | None = None, **values: Any) -> Prompt:
        verbalizer = "" if label is None else self.task.verbalizer(label)
        given = {**task_values(self.task.settings, verbalizer), **values, "label": label}
        text = render(template, **given)
        return text + cue if self.settings.render == "raw" else chat([], text)


def _verdict_schema(labels: Sequence[str]) -> Mapping[str, Any]:
    explanation = {"type": "string", "maxLength": EXPLANATION_LETTERS}
    return {
        "type": "object",
        "properties": {"explanation": explanation, "label": {"enum": list(labels)}},
        "required": ["explanation", "label"],
        "additionalProperties": False,
    }


def _apart(name: str, taken: Sequence[str]) -> str:
    return name if name not in taken else _apart(f"{name}_", taken)


def _form(*names: str) -> str:
    """Return the JSON that a prompt shows as the form of its answer."""
    return json.dumps(dict.fromkeys(names, "..."), ensure_ascii=False)


def _telling(example: Example, **extra: str) -> Example:
    return replace(example, extra={**example.extra, **extra})
