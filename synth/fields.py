"""Examples of several fields: how a prompt shows them, and the JSON that a reply has them in."""

from collections.abc import Mapping
from typing import Any

from cluster.errors import SettingsError
from synth.records import Structure
from synth.structured import json_structure
from synth.task import Task

LONGEST = 4000
"""Characters of a field, above which a reply has run away."""


def described(task: Task) -> str:
    """Return one line for each field of a task: its name and what it holds."""
    settings = task.settings
    return "\n".join(f"- {name}: {settings.what(name)}" for name in settings.fields)


def shown(fields: Mapping[str, str]) -> str:
    """Return an example's fields as a prompt shows them, each under its name."""
    return "\n".join(f"{name}: {text}" for name, text in fields.items())


def written_field(task: Task, given: str | None, setting: str) -> str:
    """Return the field that the teacher writes, of a task of one field, or of two of which one is given.

    given is what the method's setting of that name says. SettingsError when the task's fields do not fit.
    """
    fields = task.settings.fields
    others = [name for name in fields if name != given]
    if len(others) == 1 and len(fields) == (1 if given is None else 2):
        if given is not None and not task.seeds:
            raise SettingsError(f"task.seeds: names no file; method.{setting} takes {given} of it")
        return others[0]
    listed = ", ".join(fields)
    if given is None:
        raise SettingsError(
            f"method.{setting}: this method writes one field and the task has {listed}; say which one is "
            "taken from the seeds"
        )
    raise SettingsError(
        f"method.{setting}: {given} has to be one of the two fields of the task, which has {listed}"
    )


def fields_structure(task: Task, **more: Mapping[str, Any]) -> Structure:
    """Return the structure of a reply that holds all fields of an example, before them `more` properties."""
    texts = {name: {"type": "string", "minLength": 1, "maxLength": LONGEST} for name in task.settings.fields}
    properties = {**more, **texts}
    return json_structure(
        {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    )
