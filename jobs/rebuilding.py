"""Building an item of a run again, from its recorded settings, the task and `sources/`."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.errors import NightshiftError
from cluster.rundir import code_revision
from cluster.settings import flatten, validate
from cluster.storage import Store
from jobs.learned import read_feedback, round_folder
from jobs.recipe import Recipe
from synth.method import Feedback, Method, Slot, Sources
from synth.preparation import read_sources
from synth.records import Item, Prompt, Reply, Sampling, prompt_hash
from synth.task import Task, load_task

SHOWN = 3
"""Settings that changed and are named; the others are counted."""


class _Asked(Exception):
    """Ends a method's work at its first call of the teacher."""


@dataclass(slots=True)
class Rebuilt:
    """What could be built again, and in words what could not."""

    task: Task | None = None
    sources: Sources = field(default_factory=dict)
    feedback: Feedback = field(default_factory=dict)
    """What earlier rounds taught."""
    item: Item | None = None
    prompt: Prompt | None = None
    hash: str | None = None
    """Hash of the prompt as it is built now."""
    doubts: list[str] = field(default_factory=list)


def rebuild(store: Store, record: Mapping[str, Any], row: Mapping[str, Any]) -> Rebuilt:
    """Build the item of a ledger row again, and its first prompt; no teacher is needed. It never raises."""
    made = Rebuilt()
    try:
        made.sources = read_sources(store) or {}
        recipe = validate(Recipe, record.get("resolved") or {}, f"{store.url}/run.json")
        made.task = load_task(recipe.task, Path.cwd())
        method = recipe.method.build(made.task)
    except NightshiftError as error:
        made.doubts.append(f"the item cannot be built again: {error}")
        return made
    if row["position"] is None:
        made.doubts.append(
            "it is a call of prepare and no item of the plan: its prompt cannot be built again"
        )
        return made
    changed = _changed(record, recipe, made.task)
    if changed:
        made.doubts.append(
            f"the item cannot be built again: {changed} changed since the run was begun; put the task back "
            "as it was, its seeds too"
        )
        return made
    try:
        _take_round(made, store, row["round"], recipe.method.prepares_each_round)
        _plan(made, method, row)
    except Exception as error:  # Whatever a method raises, what else is known is told.
        made.doubts.append(
            f"the item cannot be built again: {type(error).__name__}: {error}; {_code(record)}"
        )
    return made


def _take_round(made: Rebuilt, store: Store, number: int, own_sources: bool) -> None:
    """Read what a later round was planned from."""
    if not number:
        return
    folder = round_folder(store, number)
    made.feedback = read_feedback(folder).feedback
    if own_sources:
        made.sources = read_sources(folder) or {}


def _plan(made: Rebuilt, method: Method, row: Mapping[str, Any]) -> None:
    """Find the item at its place in the plan, and what it asks the teacher first."""
    slot = _slot_at(method.plan(made.sources, row["round"], made.feedback), row["position"])
    item = slot.build() if slot else None
    if item is None or item.id != row["item_id"]:
        made.doubts.append(
            f"position {row['position']} of the plan as it is now holds {item.id if item else 'nothing'}: "
            "sources/ or the code changed since the row was made"
        )
        return
    made.item = item
    made.prompt = asyncio.run(_first_prompt(method, item))
    made.hash = prompt_hash(made.prompt) if made.prompt is not None else None


def _slot_at(plan: Iterator[Slot], position: int) -> Slot | None:
    """Return the slot at a position; only it is built."""
    return next((slot for slot in plan if slot.position >= position), None)


async def _first_prompt(method: Method, item: Item) -> Prompt | None:
    asked: list[Prompt] = []

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        asked.append(prompt)
        raise _Asked

    with suppress(_Asked):
        await method.examples(item, generate)
    return asked[0] if asked else None


def _changed(record: Mapping[str, Any], recipe: Recipe, task: Task) -> str:
    """Name what of task and method differs from what the run was begun with; empty when nothing does."""
    known = (record.get("fingerprints") or {}).get("synthesize")
    if known is None:
        return ""
    content = {"task": task.identity(), "method": recipe.method.identity()}
    now = flatten(content)
    mine = {key: value for key, value in known.items() if key.partition(".")[0] in content}
    changed = [key for key in sorted(mine | now) if _json(mine.get(key)) != _json(now.get(key))]
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"{', '.join(changed[:SHOWN])}{more}" if changed else ""


def _json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def versions_apart(record: Mapping[str, Any]) -> str:
    """Say with which code the run was made and which this is; empty when they are the same or unknown."""
    then, now = record.get("revision"), code_revision()
    return f"the run was made with code {then}, this is {now}" if then and now and then != now else ""


def _code(record: Mapping[str, Any]) -> str:
    return versions_apart(record) or "sources/ or the code may have changed"
