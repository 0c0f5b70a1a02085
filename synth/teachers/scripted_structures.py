"""Structured replies of the scripted teacher: values drawn to fit a schema, and ways to write them badly."""

import json
import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from synth.records import Structure

DEEP = 8
"""Levels below which lists are as short as they may be, and only what is required is there."""
MANGLINGS = ("prose", "fence", "cut", "comma", "python")
_UNKNOWN = {
    "allOf",
    "contains",
    "format",
    "if",
    "minProperties",
    "not",
    "pattern",
    "patternProperties",
    "uniqueItems",
}


class Writer:
    """Draws what a structure asks for, from one generator and some words; `count` of them make a text."""

    def __init__(self, rng: random.Random, words: Sequence[str], count: int) -> None:
        self._rng = rng
        self._words = words
        self._count = count

    def reply(self, structure: Structure) -> str:
        """Return one of the choices, or JSON that fits the schema."""
        if structure.json_schema is None:
            return self._rng.choice(structure.choices)
        schema = _parsed(structure.json_schema)
        return json.dumps(self._value(schema, schema, 0), ensure_ascii=False)

    def mangled(self, reply: str) -> str:
        """Return a reply as careless teachers write it; some of it can be read still."""
        kind = self._rng.choice(MANGLINGS)
        if kind == "prose":
            return f"Well, {' '.join(self._rng.choices(self._words, k=self._count))}."
        if kind == "fence":
            return f"Here it is:\n```json\n{reply}\n```\nI hope this helps!"
        if kind == "cut":
            return reply[: len(reply) // 2]
        if not reply.startswith("{"):
            return f"**{reply.upper()}**."
        return f"{reply[:-1]},}}" if kind == "comma" else repr(json.loads(reply))

    def _value(self, schema: Any, root: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return self._text({})
        if unknown := _UNKNOWN & schema.keys():
            raise ValueError(
                f"the scripted teacher cannot write to a schema with {', '.join(sorted(unknown))}"
            )
        if "$ref" in schema:
            return self._value(_referred(schema["$ref"], root), root, depth + 1)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._rng.choice(schema["enum"])
        for name in ("anyOf", "oneOf"):
            if name in schema:
                # The last way is taken by the deep, as in `anyOf: [node, null]`.
                ways = schema[name][-1:] if depth > DEEP else schema[name]
                return self._value(self._rng.choice(ways), root, depth + 1)
        return self._typed(schema, root, depth)

    def _typed(self, schema: Mapping[str, Any], root: Any, depth: int) -> Any:
        kinds = schema.get("type", "object" if "properties" in schema else "string")
        kind = kinds if isinstance(kinds, str) else self._rng.choice(kinds)
        if kind == "object":
            return self._object(schema, root, depth)
        if kind == "array":
            return self._array(schema, root, depth)
        if kind in ("integer", "number"):
            return self._number(schema, kind)
        if kind == "boolean":
            return self._rng.random() < 0.5
        return None if kind == "null" else self._text(schema)

    def _object(self, schema: Mapping[str, Any], root: Any, depth: int) -> dict[str, Any]:
        known, required = schema.get("properties", {}), schema.get("required", ())
        names = dict.fromkeys((*(() if depth > DEEP else known), *required))
        other = schema.get("additionalProperties")
        return {name: self._value(known.get(name, other), root, depth + 1) for name in names}

    def _array(self, schema: Mapping[str, Any], root: Any, depth: int) -> list[Any]:
        least = int(schema.get("minItems", 0))
        most = int(schema.get("maxItems", max(least, 3)))
        fixed = schema.get("prefixItems", ())
        size = (
            least if depth > DEEP else self._rng.randint(min(max(least, 1), most), max(least, min(most, 3)))
        )
        inner = [*fixed[:size], *[schema.get("items")] * (size - len(fixed))]
        return [self._value(each, root, depth + 1) for each in inner]

    def _number(self, schema: Mapping[str, Any], kind: str) -> float:
        step = schema.get("multipleOf", 1 if kind == "integer" else None)
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum", schema.get("exclusiveMaximum"))
        low = (0 if high is None else high - 10) if low is None else low
        high = low + 10 if high is None else high
        if step is None:
            return round(low + (high - low) * self._rng.uniform(0.25, 0.75), 6)
        first = -(-low // step) + (low % step == 0 and "exclusiveMinimum" in schema)
        last = high // step - (high % step == 0 and "exclusiveMaximum" in schema)
        return self._rng.randint(int(first), int(max(first, last))) * step

    def _text(self, schema: Mapping[str, Any]) -> str:
        least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
        text = " ".join(self._rng.choices(self._words, k=self._count)) + "."
        while len(text) < least:
            text = f"{text} {self._rng.choice(self._words)}"
        return text if most is None else text[: int(most)]


@lru_cache(maxsize=64)
def _parsed(schema: str) -> Any:
    return json.loads(schema)


def _referred(reference: str, root: Any) -> Any:
    """Return what a reference within the schema names."""
    node = root
    for name in reference.lstrip("#").split("/")[1:]:
        node = node[name.replace("~1", "/").replace("~0", "~")]
    return node
