"""Incubator: one call writes one text for every label, so that labels know of one another (2404.10877).

One reply is a dictionary of texts by label; `Other` is a label like any. An untuned teacher is held to a JSON
schema; one tuned for it answers the bare instruction. Self-diversification is part of tuning the teacher.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from json import dumps
from typing import Any, Literal

from pydantic import Field

from synth.dictionaries import Dictionary, Keys, plain_keys, read_dictionary
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
from synth.multiple_choice import bare
from synth.prompting import chat, render, task_values
from synth.records import Example, Item, Prompt, Rejection, Sampling, Structure, make_item
from synth.structured import Unparsed, json_structure
from synth.task import Task

SCHEMA_INSTRUCTION = """\
A classifier is to learn this task from texts that you write: {{ instruction }}

The classes to write for:
{% for label in labels %}- {{ label.key }}{% if label.renamed %} ({{ label.name }}){% endif %}: \
{{ label.phrase }}
{% endfor %}{% if others %}
The classifier has more classes, which none of your texts may fit: {{ others | join("; ") }}.
{% endif %}
Write one {{ text_type | lower }} for each class, such that it belongs to this class and to no other.\
{% if length %} Each is {{ length }} long.{% endif %}{% if style %} Style: {{ style }}.{% endif %}
Answer with one JSON object and nothing else; put the texts in place of the dots:
{{ form }}"""

FREE_INSTRUCTION = """\
Build a classifier for this task: {{ instruction }} Its classes are '{{ names | join("', '") }}'.\
{% if others %} Other classes, for which no text is wanted, are '{{ others | join("', '") }}'.{% endif %}"""

LETTERS_PER_TOKEN = 4
"""Longest text of a schema: so many letters for each token of a label, a little less than English has."""
SHOWN = 200
"""Characters of a reply kept with each label it failed; the first of them keeps all of it."""


class IncubatorSampling(SamplingSettings):
    """How the teacher samples; plain sampling, as in the published code.

    That code also leaves top_k at 50, its library's default; backends here have no top_k in common.
    """

    temperature: float = Field(1.0, ge=0, le=5)
    """1 in the published code, which sets none."""
    top_p: float = Field(1.0, gt=0, le=1)
    """1 in the published code, which sets none."""
    max_tokens: int = Field(64, ge=1)
    """Reply tokens for each label's text. Published script: 64 for a dictionary of two short texts."""


class IncubatorSettings(MethodSettings):
    """Incubator. `published_code`: a tuned teacher, 32 tokens a label, defective dictionaries dropped."""

    presets = {"published_code": {"form": "free", "partial": "drop", "sampling": {"max_tokens": 32}}}

    name: Literal["incubator"] = "incubator"
    sampling: IncubatorSampling = IncubatorSampling()
    """How the teacher samples."""
    render: Literal["raw", "chat"] = "chat"
    """`chat`: the model's chat template, as the published code prompts; `raw`: a plain continuation."""
    form: Literal["schema", "free"] = "schema"
    """`schema`: an untuned teacher is told the form and held to a JSON schema with a key for each label;
    `free`: a tuned teacher answers the instruction alone with a dictionary."""
    labels_per_call: int | None = Field(None, ge=2)
    """Most labels of one dictionary; more are shared out over several calls, which name the others. By
    default all are in one, as in the paper; a dictionary of 80 texts is more than most teachers finish."""
    min_letters: int = Field(2, ge=1)
    """Fewest letters of a text in the schema: with more, a small teacher cannot leave it at one word."""
    partial: Literal["keep", "drop"] = "keep"
    """Of a dictionary that lacks labels or has others, `keep` the texts there are, or `drop` all of them
    (published code)."""
    instruction: str | None = None
    """Jinja template of the prompt, by default that of the form; may name instruction, labels (each with
    key, name, renamed, phrase), names, others, form, text_type, document_type, length, style."""

    def build(self, task: Task) -> Method:
        return Incubator(self, task)


@dataclass(frozen=True, slots=True)
class Group:
    """What the items of some labels have in common."""

    keys: Keys
    prompt: Prompt
    sampling: Sampling


class Incubator(Method):
    """Plans one item per draw and group of labels, groups in turn, without end."""

    def __init__(self, settings: IncubatorSettings, task: Task) -> None:
        super().__init__(settings, task)
        only_text(task)
        self.settings = settings
        self._longest = settings.sampling.max_tokens * LETTERS_PER_TOKEN
        shared_out = _shared_out(task.labels, settings.labels_per_call)
        self._groups = {labels: self._group(labels) for labels in shared_out}
        spellings = (name for group in self._groups.values() for name in group.keys.exact)
        self._names = {bare(name) for name in (*spellings, *task.settings.labels.values())}

    def plan(self, sources: Sources, round: int, feedback: Feedback) -> Iterator[Slot]:
        position = count()
        for draw in count():
            for labels in self._groups:
                place = next(position)
                yield Slot(place, labels, partial(self._item, round, place, labels, draw))

    def _item(self, round: int, position: int, labels: tuple[str, ...], draw: int) -> Item:
        return make_item(self.plan_key, round, position, labels, draw=draw)

    def prompt(self, item: Item) -> Prompt:
        """Return the prompt of an item; it is the same for all items of its labels."""
        return self._groups[item.labels].prompt

    async def examples(self, item: Item, generate: Generate) -> list[Example | Rejection]:
        """Return one outcome for each label, in the order of the task.

        Reasons for all labels of a reply: `empty`, `unparsed`, `misfit`, `cut_off` (`read_dictionary`), so
        that what they have of all rows is the share of replies that could not be parsed. For one label:
        `missing_label`; `cut_off_text`, the length limit ended it; `no_text`, another value; `empty_text`;
        `label_as_text`, only the name of a label or its phrase; `duplicate_value`, another label has the same
        text; `partial`, nothing is wrong with it but its dictionary is dropped.
        """
        group = self._groups[item.labels]
        reply = await generate(group.prompt, group.sampling)
        whole = reply.finish_reason != "length"
        found = read_dictionary(reply.text, group.keys, whole)
        if isinstance(found, Unparsed):
            return [
                Rejection(found.reason, reply.text if place == 0 else reply.text[:SHOWN], label)
                for place, label in enumerate(item.labels)
            ]
        return self._outcomes(item.labels, found, reply.text, whole)

    def _outcomes(
        self, labels: Sequence[str], found: Dictionary, reply: str, whole: bool
    ) -> list[Example | Rejection]:
        often = Counter(bare(text) for text in found.values.values() if text is not None)
        lacking = len(labels) - len(found.values)
        dropped = self.settings.partial == "drop" and (lacking > 0 or found.others > 0)
        extra = {"labels_filled": f"{len(found.values)}/{len(labels)}"}
        if found.others:
            extra["other_keys"] = str(found.others)
        shown = iter([reply])
        outcomes: list[Example | Rejection] = []
        for label in labels:
            text = (found.values.get(label) or "").strip()
            fault = self._fault(label, found.values, often, whole) or ("partial" if dropped else None)
            if fault is None:
                outcomes.append(Example({"text": text}, label, extra))
            else:
                outcomes.append(Rejection(fault, text or next(shown, reply[:SHOWN]), label))
        return outcomes

    def _fault(
        self, label: str, values: Mapping[str, str | None], often: Mapping[str, int], whole: bool
    ) -> str | None:
        """Return what is wrong with the text of a label."""
        if label not in values:
            return "missing_label" if whole else "cut_off_text"
        if (text := values[label]) is None:
            return "no_text"
        if self.settings.form == "schema" and len(text) == self._longest:
            # The schema closed it in the middle of whatever it was about to say.
            return "cut_off_text"
        if not (form := bare(text)):
            return "empty_text"
        if form in self._names:
            return "label_as_text"
        return "duplicate_value" if often[form] > 1 else None

    def _group(self, labels: tuple[str, ...]) -> Group:
        held = self.settings.form == "schema"
        keys = plain_keys(labels) if held else {label: label for label in labels}
        form = dumps(dict.fromkeys(keys.values(), "..."), ensure_ascii=False)
        structure = (
            _structure(list(keys.values()), self.settings.min_letters, self._longest) if held else None
        )
        # Keys and marks come on top of the texts: half a token for each byte is enough.
        tokens = len(labels) * self.settings.sampling.max_tokens + len(form.encode()) // 2
        sampling = replace(self.sampling, max_tokens=tokens, stop=self.settings.stop, structure=structure)
        return Group(Keys.of(keys), self._prompt(keys, form), sampling)

    def _prompt(self, keys: Mapping[str, str], form: str) -> Prompt:
        held, names = self.settings.form == "schema", {label: _line(label) for label in self.task.labels}
        values: dict[str, Any] = {**task_values(self.task.settings, "")}
        del values["verbalizer"]
        values["labels"] = [
            {
                "key": key,
                "name": names[label],
                "renamed": key.replace("_", " ") != label.replace("_", " "),
                "phrase": self.task.verbalizer(label),
            }
            for label, key in keys.items()
        ]
        values["names"] = [names[label] for label in keys]
        values["others"] = [name for label, name in names.items() if label not in keys]
        template = self.settings.instruction or (SCHEMA_INSTRUCTION if held else FREE_INSTRUCTION)
        text = render(template, form=form, **values)
        if self.settings.render == "chat":
            return chat([], text)
        return f"{text}\n\nAnswer:" if held else text


def _shared_out(labels: tuple[str, ...], most: int | None) -> list[tuple[str, ...]]:
    """Return labels in groups of at most so many, in order, as equal in size as can be."""
    groups = -(-len(labels) // most) if most else 1
    ends = [len(labels) * place // groups for place in range(groups + 1)]
    return [labels[start:end] for start, end in pairwise(ends)]


def _structure(keys: Sequence[str], least: int, longest: int) -> Structure:
    text = {"type": "string", "minLength": min(least, longest), "maxLength": longest}
    return json_structure(
        {
            "type": "object",
            "properties": dict.fromkeys(keys, text),
            "required": list(keys),
            "additionalProperties": False,
        }
    )


def _line(name: str) -> str:
    return " ".join(name.split())
