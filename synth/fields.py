"""Examples of several fields: how a prompt shows them, and the JSON that a reply has them in."""

from collections.abc import Mapping
from typing import Any

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
