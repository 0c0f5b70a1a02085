"""What a stronger teacher adds to Incubator's pairs (2404.10877): instructions reworded, and new tasks.

The paper has GPT-4 do both and shows no prompts: these are this project's.
"""

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.listing import Stage as Asked
from synth.method import Generate
from synth.multiple_choice import bare
from synth.prompting import chat, render
from synth.records import Prompt, Sampling, Structure
from synth.structured import Unparsed, ask, json_structure
from synth.task import TaskSettings
from training.incubation.pairs import Pair
from training.incubation.settings import WriterSettings

REWORD = """\
Someone wants a text classifier and says:
{{ instruction }}

Its classes:
{% for phrase in phrases %}- {{ phrase }}
{% endfor %}
In what other words could people ask for the same classifier? Write a numbered list of {{ most }} requests, \
each of one or two sentences: some short, some formal, some as a user would type them. None lists the \
classes, which are given beside it."""

INVENT = """\
People want text classifiers. For each they give an instruction, what kind of text it is, the classes, and \
for each class one example that belongs to it and to no other class. Here are some:
{% for shown in examples %}
{{ shown }}
{% endfor %}
Think of another task, of a field that is none of these, and write it in the same form, as one JSON object. \
The examples have to read like real texts."""

LONGEST = 600
"""Letters of a reworded instruction."""
LABELS = 8
"""Most classes of an invented task."""
_SHORT, _TEXT = {"type": "string", "maxLength": 60}, {"type": "string", "minLength": 2, "maxLength": 600}


@dataclass(frozen=True, slots=True)
class Invented:
    """Pairs of invented tasks, and how many replies gave none, by reason."""

    pairs: tuple[Pair, ...]
    refused: Mapping[str, int]


async def rewordings(
    tasks: Sequence[TaskSettings], settings: WriterSettings, generate: Generate
) -> dict[str, list[str]]:
    """Ask for other wordings of each task's instruction; a task of which none can be read has none."""

    async def of(task: TaskSettings) -> list[str]:
        phrases, most = list(task.labels.values()), settings.rewrite
        prompt = chat([], render(REWORD, instruction=task.instruction, phrases=phrases, most=most))
        known = {task.instruction.casefold()}
        return await Asked(task.name).listed(
            generate, prompt, _sampling(settings), most, LONGEST, known=known
        )

    if not settings.rewrite:
        return {task.name: [] for task in tasks}
    found = await asyncio.gather(*map(of, tasks))
    return {task.name: lines for task, lines in zip(tasks, found, strict=True)}


async def inventions(
    real: Sequence[Pair], settings: WriterSettings, seed: int, generate: Generate
) -> Invented:
    """Ask for new tasks, each time shown other real pairs; an instruction known already is refused."""
    rng = random.Random(f"{seed}:inventions")
    structure = json_structure(_SCHEMA)
    prompts = [_prompt(rng.sample(real, min(settings.shown, len(real)))) for _ in range(settings.invent)]
    answers = await asyncio.gather(*(_answer(generate, each, settings, structure) for each in prompts))
    known = {pair.task.instruction.casefold() for pair in real}
    pairs: list[Pair] = []
    refused: dict[str, int] = {}
    for answer in answers:
        pair = _pair(answer, f"invented-{len(pairs) + 1}") if isinstance(answer, dict) else answer
        if isinstance(pair, Pair) and pair.task.instruction.casefold() in known:
            pair = "known"
        if isinstance(pair, Pair):
            known.add(pair.task.instruction.casefold())
            pairs.append(pair)
        else:
            refused[pair] = refused.get(pair, 0) + 1
    return Invented(tuple(pairs), refused)


async def _answer(
    generate: Generate, prompt: Prompt, settings: WriterSettings, structure: Structure
) -> dict[str, Any] | str:
    """Return the object a request brought, or the reason why none."""
    answer = await ask(generate, prompt, _sampling(settings), structure)
    if isinstance(answer.value, Unparsed):
        return answer.value.reason
    return dict(answer.value)


def _pair(answer: Mapping[str, Any], name: str) -> Pair | str:
    """Return an invented pair, or why it is none: `labels` or `texts` that are not distinct, or `empty`."""
    instruction, text_type = (" ".join(answer[key].split()) for key in ("instruction", "text_type"))
    texts = {" ".join(each["class"].split()): each["text"].strip() for each in answer["examples"]}
    words = [bare(label) for label in texts]
    written = [bare(text) for text in texts.values()]
    if not (instruction and text_type and all(words) and all(written)):
        return "empty"
    if len(set(words)) < len(answer["examples"]):
        return "labels"
    if len({*words, *written}) < len(words) + len(written):
        return "texts"
    labels = {label: label for label in texts}
    return Pair(TaskSettings(name=name, instruction=instruction, text_type=text_type, labels=labels), texts)


def _prompt(shown: Sequence[Pair]) -> Prompt:
    return chat([], render(INVENT, examples=[_as_example(pair) for pair in shown]))


def _as_example(pair: Pair) -> str:
    examples = [{"class": label, "text": text} for label, text in pair.texts.items()]
    given = {"instruction": pair.task.instruction, "text_type": pair.task.text_type, "examples": examples}
    return json.dumps(given, ensure_ascii=False)


def _sampling(settings: WriterSettings) -> Sampling:
    return Sampling(settings.temperature, top_p=1.0, max_tokens=settings.max_tokens)


_EXAMPLE = {
    "type": "object",
    "properties": {"class": _SHORT, "text": _TEXT},
    "required": ["class", "text"],
    "additionalProperties": False,
}
_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "instruction": {"type": "string", "minLength": 10, "maxLength": 400},
        "text_type": _SHORT,
        "examples": {"type": "array", "minItems": 2, "maxItems": LABELS, "items": _EXAMPLE},
    },
    "required": ["instruction", "text_type", "examples"],
    "additionalProperties": False,
}
