"""Incubator's prompts and replies as rows to tune on, and as what a tuned teacher is asked and answers."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from cluster.errors import RunError, SettingsError
from synth.method import Generate, MethodSettings
from synth.methods.incubator import Incubator, IncubatorSettings
from synth.records import Example, Item, Prompt
from synth.task import Task, TaskSettings


@dataclass(frozen=True, slots=True)
class Question:
    """What the method asks for a task: one prompt, or with `labels_per_call` one for each group of labels."""

    task: TaskSettings
    method: Incubator
    item: Item

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the dictionary, in order."""
        return self.item.labels

    def lesson(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return the row a teacher learns from: the very prompt it will be asked, and the reply wanted."""
        prompt = self.method.prompt(self.item)
        reply = json.dumps({label: texts[label] for label in self.labels}, ensure_ascii=False)
        return _row(prompt, reply)


@dataclass(frozen=True, slots=True)
class Answers:
    """Dictionaries with a sound text for each label, and how many replies were none, by the first reason."""

    dictionaries: tuple[Mapping[str, str], ...]
    refused: Mapping[str, int]

    @property
    def asked(self) -> int:
        """Replies in all."""
        return len(self.dictionaries) + sum(self.refused.values())


def free_form(method: MethodSettings) -> IncubatorSettings:
    """Return the settings of Incubator's method; SettingsError unless it asks with the bare instruction."""
    if isinstance(method, IncubatorSettings) and method.form == "free":
        return method
    raise SettingsError(
        "incubation: tunes a teacher to answer the bare instruction; set method.name=incubator and "
        "method.form=free"
    )


def questions(task: TaskSettings, settings: IncubatorSettings) -> list[Question]:
    """Return all that the method asks for one dictionary of a task's labels."""
    method = settings.build(Task(task, ()))
    assert isinstance(method, Incubator)
    items = takewhile(lambda item: item.draw == 0, (slot.build() for slot in method.plan({}, 0, {})))
    return [Question(task, method, item) for item in items]


async def answers(question: Question, draws: int, generate: Generate) -> Answers:
    """Ask a question so many times, all at once, and judge every reply as the method does in synthesis."""
    found = await asyncio.gather(*(_answer(question, generate) for _ in range(draws)))
    refused = Counter(each for each in found if isinstance(each, str))
    return Answers(tuple(each for each in found if not isinstance(each, str)), dict(refused))


async def _answer(question: Question, generate: Generate) -> Mapping[str, str] | str:
    """Return one dictionary, or the reason why there is none."""
    try:
        outcomes = await question.method.examples(question.item, generate)
    except RunError:
        # The pool gave this call up after several attempts; the others go on.
        return "failed"
    texts: dict[str, str] = {}
    for outcome in outcomes:
        if not isinstance(outcome, Example):
            return outcome.reason
        if "other_keys" in outcome.extra:
            return "other_keys"
        texts[str(outcome.label)] = outcome.fields["text"]
    return texts


def _row(prompt: Prompt, reply: str) -> dict[str, Any]:
    if isinstance(prompt, str):
        return {"prompt": prompt, "reply": reply}
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt]
    return {"messages": [*turns, {"role": "assistant", "content": reply}]}


def as_jsonl(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
