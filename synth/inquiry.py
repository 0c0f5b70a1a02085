"""Asking a teacher in which ways the texts of a task differ, and for values (AttrPrompt, 2306.15895)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from typing import Any

from synth.attributes import Dimension, Tally, Value, words
from synth.listing import numbered
from synth.method import Generate
from synth.multiple_choice import choose
from synth.prompting import chat, render, task_values
from synth.records import Prompt, Sampling, Structure
from synth.structured import RETRY_TEMPERATURE, Unparsed, ask, choice_structure, json_structure
from synth.task import Task

DIMENSIONS = """\
The task: {{ instruction }}

The labels:
{% for phrase in phrases %}- {{ phrase }}
{% endfor %}
In which ways do such {{ text_type | lower }} texts differ from one another, apart from \
{{ fixed | join(" and ") }}? Name {{ most }} such ways. For each give its name, what it is, and whether its \
usual values differ from label to label.
Answer as JSON: {"attributes": [{"name": "...", "what": "...", "differs_by_label": true}]}"""

SIMILAR = """\
The task: {{ instruction }}

The labels:
{% for name, phrase in others.items() %}- {{ name }}: {{ phrase }}
{% endfor %}
Another label is {{ label }}: {{ verbalizer }}
Which of the labels in the list are closest to {{ label }}, so that a text may be taken for the wrong one? \
Write a numbered list of at most {{ most }} names, the closest first, and nothing else."""

VALUES = """\
The task: {{ instruction }}

{{ text_type }} texts{% if verbalizer %} about {{ verbalizer }}{% endif %} differ in their \
{{ name }}{% if what %} ({{ what }}){% endif %}.
What can the {{ name }} be? Write a numbered list of {{ most }} different answers, each a few words long, \
and nothing else.\
{% if similar %} None may have to do with any of these: {{ similar | join("; ") }}{% endif %}"""

RELATED = """\
{{ name }}: {{ value }}

This is for {{ text_type | lower }} texts about {{ verbalizer }}. Does it also have to do with one of these?
{% for phrase in similar %}- {{ phrase }}
{% endfor %}
Answer yes or no."""

RESERVED = {"label", "labels", "similar"}
"""What cannot be the name of an attribute that is proposed."""
LONGEST = 200
"""Letters of a value, above which it is no value but a text."""
FILTER_TOKENS = 128
"""Tokens of an answer to the filter's question, in the published code."""
_YES_OR_NO = choice_structure(["yes", "no"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """How much is asked of the teacher, and how."""

    dimensions: int
    values: int
    similar: int
    drops: int
    attempts: int
    sampling: Sampling
    raw: bool


class Inquiry:
    """Asks a teacher about a task. No reply makes it raise: what cannot be read is left out and counted."""

    def __init__(self, task: Task, wanted: Wanted, generate: Generate) -> None:
        self._task = task
        self._wanted = wanted
        self._generate = generate
        self.stages = {name: Tally() for name in ("dimensions", "similar", "values", "value filter")}

    async def dimensions(self, fixed: Sequence[str]) -> list[Dimension]:
        """Return ways in which the texts of the task differ, beside those that are fixed."""
        phrases, most = self._phrases(self._task.labels), self._wanted.dimensions
        prompt = self._prompt(DIMENSIONS, "Answer:", phrases=phrases, most=most, fixed=["label", *fixed])
        form = json_structure(_proposal(most))
        value = await self._asked("dimensions", prompt, self._wanted.sampling, form)
        found: dict[str, Dimension] = {}
        for each in value["attributes"] if value is not None else ():
            name, what = " ".join(each["name"].split()), " ".join(each["what"].split())
            key = words(name).casefold()
            if any(map(str.isalnum, key)) and key not in {*RESERVED, *fixed}:
                found.setdefault(key, Dimension(name, what, each["differs_by_label"]))
        return [*found.values()][:most]

    async def of_label(self, dimensions: Sequence[Dimension], label: str) -> tuple[list[str], list[Value]]:
        """Return the labels closest to one, and its values in some dimensions, some dropped by the filter."""
        similar = await self._similar(label)
        groups = await asyncio.gather(*(self.values(each, label, similar) for each in dimensions))
        asked = {each.name for each in dimensions if not each.values}
        doubtful = [each for group in groups for each in group if each.kept and each.attribute in asked]
        judged = await self._filtered(doubtful, similar)
        return similar, [judged.get(each, each) for group in groups for each in group]

    async def values(self, dimension: Dimension, label: str | None, similar: Sequence[str]) -> list[Value]:
        """Return the values of a dimension, the user's or else the teacher's; or a row that says why none."""
        if dimension.values:
            return [Value(label, dimension.name, each) for each in dimension.values[label]]
        verbalizer = None if label is None else self._task.verbalizer(label)
        most, near = self._wanted.values, self._phrases(similar)
        given = {"name": words(dimension.name), "what": dimension.what, "most": most, "similar": near}
        prompt = self._prompt(VALUES, "1.", verbalizer, **given)
        # One question for each, unless a teacher's list falls short.
        listed = await self._listed(
            "values", prompt, most, enough=ceil(most / 2), usable=partial(_values, name=words(dimension.name))
        )
        if not listed:
            return [Value(label, dimension.name, None, False, "values: no list")]
        return [Value(label, dimension.name, each) for each in listed[:most]]

    async def _similar(self, label: str) -> list[str]:
        """Return the labels closest to one, the closest first; of two labels, each is close to the other."""
        named = self._task.settings.labels.items()
        others = {name: phrase for name, phrase in named if name != label}
        most = min(self._wanted.similar, len(others))
        if len(others) < 2 or not most:
            return [*others][:most]
        given = {"label": label, "others": others, "most": most}
        prompt = self._prompt(SIMILAR, "1.", self._task.verbalizer(label), **given)
        # The label itself may be among them.
        longest, usable = len(others) + 1, partial(_named, others=others)
        return (await self._listed("similar", prompt, longest, enough=1, usable=usable))[:most]

    async def _filtered(self, values: Sequence[Value], similar: Sequence[str]) -> dict[Value, Value]:
        """Return what becomes of values of one label that may have to do with similar ones too."""
        if not similar or not self._wanted.drops:
            return {}
        answers = await asyncio.gather(*(self._related(value, similar) for value in values))
        judged, drops = dict[Value, Value](), 0
        for value, answer in zip(values, answers, strict=True):
            if answer == "yes" and drops < self._wanted.drops:
                drops += 1
                judged[value] = value._replace(kept=False, reason="value filter: related")
            elif answer != "no":
                reason = "value filter: enough dropped" if answer == "yes" else "value filter: no answer"
                judged[value] = value._replace(reason=reason)
        return judged

    async def _related(self, value: Value, similar: Sequence[str]) -> str | None:
        """Say whether a value has to do with similar labels too: yes, no, or None when unreadable."""
        given = {"name": words(value.attribute), "value": value.value, "similar": self._phrases(similar)}
        prompt = self._prompt(RELATED, "Answer:", self._task.verbalizer(value.label or ""), **given)
        sampling = self._wanted.sampling
        sampling = replace(sampling, max_tokens=min(sampling.max_tokens, FILTER_TOKENS))
        answer: str | None = await self._asked("value filter", prompt, sampling, _YES_OR_NO)
        return answer

    async def _asked(self, stage: str, prompt: Prompt, sampling: Sampling, structure: Structure) -> Any:
        """Return what was answered in the form asked for; None when no attempt brought that."""
        answer = await ask(self._generate, prompt, sampling, structure, self._wanted.attempts)
        readable = not isinstance(answer.value, Unparsed)
        self.stages[stage].add(answer.attempts, readable, answer.reply.text)
        return answer.value if readable else None

    async def _listed(
        self, stage: str, prompt: Prompt, most: int, enough: int, usable: Callable[[Sequence[str]], list[str]]
    ) -> list[str]:
        """Ask for a list until enough usable entries are there, at most as often as is wanted."""
        found, sampling = dict[str, None](), self._wanted.sampling
        for _ in range(self._wanted.attempts):
            reply = await self._generate(prompt, sampling)
            entries = usable(numbered(reply.text, most, whole=reply.finish_reason != "length"))
            self.stages[stage].add(1, bool(entries), reply.text)
            found |= dict.fromkeys(entries)
            if len(found) >= enough:
                break
            # Greedy again, it would bring the same reply.
            sampling = replace(sampling, temperature=sampling.temperature or RETRY_TEMPERATURE)
        return [*found]

    def _phrases(self, labels: Sequence[str]) -> list[str]:
        return [self._task.verbalizer(label) for label in labels]

    def _prompt(self, template: str, cue: str, verbalizer: str | None = None, **values: Any) -> Prompt:
        text = render(template, **{**task_values(self._task.settings, verbalizer or ""), **values})
        return f"{text}\n\n{cue}" if self._wanted.raw else chat([], text)


def _values(listed: Sequence[str], name: str) -> list[str]:
    """Return the entries that are values: no whole texts, and not the attribute's name."""
    return [each for each in listed if len(each) <= LONGEST and each.casefold() != name.casefold()]


def _named(listed: Sequence[str], others: Mapping[str, str]) -> list[str]:
    """Return the labels that entries of a list mean, by name or else by phrase, each once."""
    by_phrase = {phrase: name for name, phrase in others.items()}
    found = (choose(each, [*others]) or by_phrase.get(choose(each, [*by_phrase]) or "") for each in listed)
    return [*dict.fromkeys(name for name in found if name is not None)]


def _proposal(most: int) -> Mapping[str, Any]:
    texts = {"name": {"type": "string", "maxLength": 60}, "what": {"type": "string", "maxLength": 300}}
    each = {**texts, "differs_by_label": {"type": "boolean"}}
    entry = {"type": "object", "properties": each, "required": [*each], "additionalProperties": False}
    # A teacher that names a few too many is not asked again.
    listed = {"type": "array", "minItems": 1, "maxItems": 2 * most, "items": entry}
    return {
        "type": "object",
        "properties": {"attributes": listed},
        "required": ["attributes"],
        "additionalProperties": False,
    }
