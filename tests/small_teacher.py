"""Shipped recipes' methods worked with the real small teacher, whatever luck it has with lists."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from cluster.errors import RunError
from synth.filters.settings import FilterSettings
from synth.filters.sieve import Sieve
from synth.listing import Stage, stages
from synth.method import Method, Sources, Tools
from synth.records import Example
from synth.task import Task, load_task

ITEMS, BATCHES = 4, 6
"""Items worked at once, and how many times at most while nothing was accepted: single replies are luck."""
SHORTER = {
    "attrprompt": ("method.values=4", "method.asking.max_tokens=60"),
    "icl": ("method.topics=6",),
    "targen": (
        *("method.contexts=3", "method.contexts_per_call=3", "method.seeds_per_context=3"),
        # Of sixty tokens every third or fourth is a list; a correction that is cut off would be asked again.
        *("method.list_tokens=60", "method.attempts=10", "method.correction_tokens=200"),
    ),
    "zerogen": ("method.conditions=8",),
}
"""What is prepared less of than the recipes say."""
REMEDIES = {
    "icl": "take a larger teacher, or variant zero_shot",
    "targen": "take a larger teacher, one that follows instructions, or more method.list_tokens",
    "zerogen": "raise method.condition_tokens, or take a larger teacher",
}
"""What a method says that could read no list at all; AttrPrompt's recipe has attributes that need none."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What came of a recipe."""

    reasons: dict[str, int]
    """Examples, as `accepted`, and rejections of each reason."""
    texts: list[str]
    failed: str
    """What preparation said when it could read no list; the items then come of `supplied` tables."""


async def work(tools: Tools, recipe: Path) -> Worked:
    """Prepare a recipe's method and work items of its plan."""
    from jobs.recipe import load_recipe

    read = load_recipe(recipe, SHORTER.get(recipe.stem, ()))
    task = load_task(read.task, recipe.parent)
    method = read.method.build(task)
    sources, failed = await prepared(recipe.stem, method, task, tools)
    reasons, texts = await examples(method, task, sources, tools)
    return Worked(reasons, texts, failed)


async def prepared(name: str, method: Method, task: Task, tools: Tools) -> tuple[Sources, str]:
    """Return what a method prepares, or else tables of ours and the error that it ended in."""
    if name not in REMEDIES:
        return await method.prepare(tools), ""
    ours = supplied(name, task)
    try:
        sources = await method.prepare(tools)
    except RunError as error:
        return ours, str(error)
    # What stands in where luck denies a list is to be what a list would have been.
    assert {key: table.schema for key, table in ours.items()} == {
        key: table.schema for key, table in sources.items()
    }
    return sources, ""


async def examples(
    method: Method, task: Task, sources: Sources, tools: Tools
) -> tuple[dict[str, int], list[str]]:
    """Return how many examples and rejections of each reason some items gave, and the accepted texts."""
    sieve, reasons, texts = Sieve(FilterSettings(), task, ()), Counter[str](), list[str]()
    plan = method.plan(sources, 0, {})
    for _ in range(BATCHES):
        items = [slot.build() for slot in islice(plan, ITEMS)]
        made = await asyncio.gather(*(method.examples(item, tools.generate) for item in items))
        sifted = [each for item, some in zip(items, made, strict=True) for each in sieve.sift(item, some)]
        reasons.update("accepted" if isinstance(each, Example) else each.reason for each in sifted)
        texts += [each.fields["text"] for each in sifted if isinstance(each, Example)]
        if texts:
            break
    return dict(reasons), texts


def supplied(method: str, task: Task) -> dict[str, pa.Table]:
    """Return the tables that a method prepares, as a larger teacher would have filled them."""
    return {"icl": _topics, "targen": _sentences, "zerogen": _titles}[method](task)


def _topics(task: Task) -> dict[str, pa.Table]:
    rows = [
        {"label": label, "topic": f"{kind} {task.verbalizer(label)}"}
        for label in task.labels
        for kind in ("the history of", "a well-known example of")
    ]
    counts = {"stage": ["topics"], "asked": [len(task.labels)], "got": [0]}
    return {"topics": pa.Table.from_pylist(rows), "stages": pa.table(counts)}


def _sentences(task: Task) -> dict[str, pa.Table]:
    contexts = ["a family film", "a crime thriller"]
    sentences = ["The children look for their dog all summer.", "A detective meets an old friend at night."]
    return {
        "contexts": pa.table({"context": contexts}),
        "seeds": pa.table({"context": contexts, "seed": sentences}),
        "stages": stages(Stage("contexts", 2), Stage("instance seeds", 4)),
    }


def _titles(task: Task) -> dict[str, pa.Table]:
    titles = ["The Long Way Home", "Heat", "A Winter in Oslo", "Nine Lives"]
    counts = {"stage": ["conditions", "distinct conditions"], "asked": [8, 0], "got": [0, 0]}
    no_seeds = pa.nulls(len(titles), pa.string())
    return {"conditions": pa.table({"condition": titles, "seed_id": no_seeds}), "stages": pa.table(counts)}
