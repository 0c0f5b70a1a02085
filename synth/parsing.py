"""Reading what a teacher wrote: JSON out of whatever surrounds and mars it."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn

from synth.multiple_choice import bare, same

STARTS = 24
"""Places of a text at which an object of its own is looked for; four times as many inside others."""
REPAIRED = 16_000
"""Characters of a damaged object, above which it is given up: repairing blocks the replica meanwhile."""
DEPTH = 32
"""Levels of brackets in a damaged object, above which it is given up."""

_BRACES = re.compile(r'\\.|["{}]', re.DOTALL)
_ENDED = re.compile(r"(?:[\d\]}\"'\u201d\u2019]|true|false|null|none)[\s,]*$", re.IGNORECASE)
_SMART = re.compile(r"(?<=[:,\[{\s])[\u201c\u201e]|\u201d(?=\s*[:,\]}])")
_OPEN_STRING = re.compile(r"[:,\[{]\s*(?:\"[^\"]*|'[^']*|\u201c[^\u201d]*|\u2018[^\u2019]*)$")


def objects(text: str, whole: bool = True) -> Iterator[dict[str, Any]]:
    """Yield the JSON objects that a text may hold: one after another, damaged ones repaired; then inner ones.

    A text that is not `whole` was cut off: what is not closed in it is left out, as is an object that ends
    inside a string. It never raises.
    """
    tried, reach = set[int](), len(text)
    start = text.find("{")
    while start >= 0 and len(tried) < STARTS:
        tried.add(start)
        found, end = _strictly(text, start)
        if end is None and (end := _end(text, start)) is not None:
            found = _repaired(text[start:end])
        elif end is None:
            end = len(text)
            if whole:
                found = _completed(text[start:].partition("```")[0])
            else:
                reach = start
        yield from found
        start = text.find("{", end)
    for match in islice(re.finditer(r"\{", text[:reach]), 4 * STARTS):
        if match.start() not in tried:
            yield from _strictly(text, match.start())[0]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)


def _strictly(text: str, start: int) -> tuple[list[dict[str, Any]], int | None]:
    """Return the object that begins at a place, and where it ends; nothing and None when it is none."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return [], None
    return [value], end


def _end(text: str, start: int) -> int | None:
    """Return where the braces opened at a place are closed: outside strings, or else anywhere."""
    for quoted in (True, False):
        depth, inside = 0, False
        for match in _BRACES.finditer(text, start):
            mark = match.group()
            if mark == '"':
                inside = quoted and not inside
            elif not inside and len(mark) == 1:
                depth += 1 if mark == "{" else -1
                if depth == 0:
                    return match.end()
    return None


def _completed(piece: str) -> list[dict[str, Any]]:
    """Repair an object whose closing braces were forgotten; none when it ends before its last value does."""
    marks = [match.group() for match in _BRACES.finditer(piece)]
    cut = marks.count('"') % 2 or _OPEN_STRING.search(piece) or not _ENDED.search(piece)
    return [] if cut else _repaired(piece)


def _repaired(piece: str) -> list[dict[str, Any]]:
    if len(piece) > REPAIRED or _depth(piece) > DEPTH:
        return []
    from json_repair import loads

    try:
        value = loads(_straightened(piece), skip_json_loads=True)
    except Exception:  # Whatever a repair stumbles over, it is the text that is wrong.
        return []
    found = value if isinstance(value, list) else [value]
    return [each for each in found if isinstance(each, dict)]


def _straightened(piece: str) -> str:
    """Return a damaged object with plain quotes for those that its repair would leave in the texts."""
    plain = piece.replace('"""', '"').replace("'''", "'")
    return plain if '"' in plain else _SMART.sub('"', plain)


def _depth(piece: str) -> int:
    depth = deepest = 0
    for match in re.finditer(r"[{}\[\]()]", piece):
        depth += 1 if match.group() in "{[(" else -1
        deepest = max(deepest, depth)
    return deepest


def conform(value: Any, schema: Any) -> Any:
    """Return a value with small deviations from a schema put right; what it cannot help stays as it is."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, dict):
        return _conform_object(value, schema)
    if isinstance(value, list):
        return [conform(each, schema.get("items")) for each in value]
    allowed = [each for each in schema.get("enum", ()) if isinstance(each, str)]
    if isinstance(value, str) and allowed and value not in allowed:
        return same(value, allowed, bare) or value
    return _conform_scalar(value, schema.get("type"))


def _conform_object(value: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    known = schema.get("properties", {})
    keys = {_key(name): name for name in known}
    made: dict[str, Any] = {}
    for given, inner in value.items():
        name = given if given in known else keys.get(_key(given), given)
        if name in known:
            if name == given or name not in value:
                made[name] = conform(inner, known[name])
        elif schema.get("additionalProperties", True) is not False:
            made[name] = conform(inner, schema.get("additionalProperties"))
    return made


def _key(name: str) -> str:
    return bare(name.replace("_", " ").replace("-", " "))


def _conform_scalar(value: Any, kind: Any) -> Any:
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and kind in ("integer", "number", "boolean"):
        try:
            read = json.loads(value.strip().lower())
        except (ValueError, RecursionError):
            return value
        return read if isinstance(read, int | float) else value
    return value
