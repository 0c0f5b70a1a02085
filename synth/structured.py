"""Replies that have a form: what a method asks for, and what it gets out of whatever the teacher wrote."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cluster.errors import SettingsError
from synth.method import Generate
from synth.multiple_choice import choose
from synth.parsing import conform, objects
from synth.records import Prompt, Reply, Sampling, Structure

if TYPE_CHECKING:
    from jsonschema.protocols import Validator

RETRY_TEMPERATURE = 0.7
"""Of attempts after the first when that was greedy: it would bring the same reply again."""


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A reply that has not the form asked for; a method makes a rejection of it, with its reason and text.

    Reasons: `empty`; `cut_off` by the length limit; `unparsed`, no JSON object found; `misfit`, one found
    that does not fit the schema; `no_choice`, none of the choices or several.
    """

    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What `ask` got in the end, after so many attempts."""

    value: Any
    """The object that fits the schema, one of the choices, or Unparsed."""
    reply: Reply
    """The last reply."""
    attempts: int


def json_structure(schema: Mapping[str, Any]) -> Structure:
    """Return the structure of a reply that is a JSON object which fits a schema.

    Keys stay in the order given, in which a teacher writes them too: what is to be thought of first comes
    first. The same schema gives the same text object, compiled once. SettingsError when it is no valid
    schema, or one of something other than an object, which not all teachers can be held to.
    """
    try:
        text = json.dumps(dict(schema), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SettingsError(f"reply schema: is not JSON: {error}") from error
    return Structure(json_schema=_checked(text))


def choice_structure(choices: Sequence[str]) -> Structure:
    """Return the structure of a reply that is one of some texts; SettingsError when they are not distinct."""
    given = tuple(choices)
    wrong = [choice for choice in given if not choice.strip() or choice != choice.strip()]
    if not given or wrong or len(set(given)) < len(given):
        raise SettingsError(
            f"reply choices {list(given)}: give at least one, each once, none empty or with spaces around it"
        )
    return Structure(choices=given)


def read(text: str, structure: Structure, whole: bool = True) -> Any:
    """Return the object or the choice in a reply's text, or Unparsed; it never raises.

    The first object that fits the schema is taken, out of code fences and prose, from Python's notation or
    damaged JSON; keys and values of an enumeration in another case, numbers as text, and keys that the schema
    does not allow are put right. `whole` is false for a reply that the length limit cut off: what it holds
    complete counts.
    """
    if not text.strip():
        return Unparsed("empty" if whole else "cut_off", text)
    if structure.json_schema is None:
        choice = choose(text, structure.choices)
        return choice if choice is not None else Unparsed("no_choice" if whole else "cut_off", text)
    validator = _validator(structure.json_schema)
    reason = "unparsed"
    for value in objects(text, whole):
        if _fits(validator, value):
            return value
        # Only what does not fit is changed.
        if _fits(validator, changed := conform(value, validator.schema)):
            return changed
        reason = "misfit"
    return Unparsed(reason if whole else "cut_off", text)


async def ask(
    generate: Generate, prompt: Prompt, sampling: Sampling, structure: Structure, attempts: int = 3
) -> Answer:
    """Ask until a reply has the form, at most so many times; each attempt is a draw of its own.

    After the last one the answer's value is Unparsed. What `generate` raises is let through.
    """
    held, attempt = replace(sampling, structure=structure), 1
    while True:
        reply = await generate(prompt, held)
        value = read(reply.text, structure, whole=reply.finish_reason != "length")
        if attempt >= attempts or not isinstance(value, Unparsed):
            return Answer(value, reply, attempt)
        attempt += 1
        if held.temperature == 0:
            held = replace(held, temperature=RETRY_TEMPERATURE)


def _fits(validator: "Validator", value: Any) -> bool:
    try:
        # What cannot be written again (NaN, half a surrogate pair) cannot be kept either.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return validator.is_valid(value)
    except (ValueError, RecursionError):
        return False


@lru_cache(maxsize=256)
def _checked(text: str) -> str:
    """Return a schema's text, always the same object, once the schema is found to be usable."""
    from jsonschema.exceptions import SchemaError
    from referencing.exceptions import Unresolvable

    validator = _validator(text)
    schema: Any = validator.schema
    if schema.get("type") != "object":
        raise SettingsError("reply schema: type must be object; wrap what is asked for into one")
    try:
        validator.check_schema(schema, format_checker=validator.FORMAT_CHECKER)
        _check_references(schema, schema)
    except (SchemaError, Unresolvable) as error:
        raise SettingsError(f"reply schema: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise SettingsError("reply schema: is nested too deeply") from error
    return text


def _check_references(node: Any, schema: Any) -> None:
    """Refuse references out of the schema, which would be fetched, and such as lead nowhere in it."""
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    if isinstance(node, list):
        for each in node:
            _check_references(each, schema)
    elif isinstance(node, dict):
        reference = node.get("$ref")
        if isinstance(reference, str):
            if not reference.startswith("#"):
                raise SettingsError(f"reply schema: $ref {reference!r} leads out of it; use #/$defs/…")
            Registry().with_resource("", DRAFT202012.create_resource(schema)).resolver().lookup(reference)
        for each in node.values():
            _check_references(each, schema)


@lru_cache(maxsize=256)
def _validator(text: str) -> "Validator":
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # An empty registry fetches nothing.
    return Draft202012Validator(json.loads(text), registry=Registry())
