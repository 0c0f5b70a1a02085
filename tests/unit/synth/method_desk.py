"""Working a method without a run: preparing, planning and examples, with replies that a function gives."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from synth.method import Method, Retrieve, Sources, Tools
from synth.prompting import as_text
from synth.records import Example, Item, Prompt, Rejection, Reply, Sampling
from synth.task import Gold, Task, TaskSettings

GOLDEN = Path(__file__).parents[2] / "golden" / "prompts"
LABELS = {"sport": "a match or an athlete", "trade": "companies and markets"}
PAIR = {"text": "a passage of one to three sentences", "hypothesis": "a claim about it, one sentence"}

ODD = {
    'say "hi"': 'what "hi" is',
    "{{ jinja }} {% x %}": "braces { }",
    "日本語": "naïve – ü",
    "two\nlines": "\\",
}
"""Labels and verbalizers with marks that a template or a reply may trip over."""


def headlines(seeds: int = 6, labels: dict[str, str] | None = None) -> Task:
    """Return a task of one field with so many seeds of each label."""
    named = LABELS if labels is None else labels
    settings = TaskSettings(
        name="news", instruction="Tell the topic.", text_type="Headline", labels=named, length="one sentence"
    )
    return Task(settings, tuple(_gold(label, n) for label in named for n in range(seeds)))


def pairs(seeds: int = 6) -> Task:
    """Return a task of two fields with so many seeds of each label."""
    labels = {"entailment": "the passage proves the claim", "neutral": "the passage leaves the claim open"}
    settings = TaskSettings.model_validate(
        {"name": "nli", "instruction": "Does the claim follow?", "labels": labels, "fields": PAIR}
    )
    return Task(settings, tuple(_gold(label, n, "hypothesis") for label in labels for n in range(seeds)))


def _gold(label: str, number: int, *more: str) -> Gold:
    fields = {name: f"Gold {name} {label} {number}." for name in ("text", *more)}
    return Gold(f"{label}{number}", fields, label)


@dataclass
class Teacher:
    """Answers each prompt, given as text, with what a function says; keeps what it was asked."""

    answer: Callable[[str], str | Reply]
    asked: list[tuple[Prompt, Sampling]] = field(default_factory=list)

    async def generate(self, prompt: Prompt, sampling: Sampling) -> Reply:
        self.asked.append((prompt, sampling))
        await asyncio.sleep(0)
        answer = self.answer(as_text(prompt))
        return answer if isinstance(answer, Reply) else Reply(answer, "stop", 1, 1)

    @property
    def prompts(self) -> list[str]:
        return [as_text(prompt) for prompt, _ in self.asked]


class Words:
    """A tokenizer of words."""

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, tokens: int) -> str:
        return " ".join(text.split()[:tokens])


def prepared(method: Method, teacher: Teacher, retrieve: Retrieve | None = None) -> Sources:
    """Return what a method's `prepare` makes with this teacher."""
    return asyncio.run(method.prepare(Tools(teacher.generate, Words(), retrieve)))


def planned(method: Method, items: int, sources: Sources | None = None, round: int = 0) -> list[Item]:
    """Return the first items of a plan; slots and items agree, and no item is there twice."""
    slots = list(islice(method.plan(sources or {}, round, {}), items))
    built = [slot.build() for slot in slots]
    assert [(item.position, item.labels) for item in built] == [slot[:2] for slot in slots]
    assert [item.position for item in built] == list(range(len(built)))
    assert len({item.id for item in built}) == len(built)
    return built


def worked(method: Method, item: Item, teacher: Teacher) -> list[Example | Rejection]:
    """Return what a method makes of an item with this teacher."""
    return asyncio.run(method.examples(item, teacher.generate))


def is_golden(prompt: Prompt, name: str) -> bool:
    """Say whether a prompt is that of a golden file."""
    return f"{as_text(prompt)}\n" == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
