"""Dictionaries of one text per label, as teachers write them: keys for any labels, and tolerant reading.

Incubator's published code does not know the labels of a task: of many replies it lets the most frequent list
of keys, in its order, win and drops every other dictionary. Here the task names its labels, so each reply is
read by itself, whatever the order of its keys; no row depends on other rows, and there is no vote.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from synth.multiple_choice import bare
from synth.parsing import objects
from synth.structured import Unparsed

LONGEST_KEY = 40
"""Letters of a key; a label with more gets a number."""

_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_NUMBERED = re.compile(r"class_\d+")
_STEP = re.compile(r'\\.|["{}\[\],]', re.DOTALL)


def plain_keys(labels: Sequence[str]) -> dict[str, str]:
    """Return label to key, in order: the label's name where it is plain enough, else `class_3` by its place.

    Keys are distinct whatever their case, and hold only letters a-z, digits and `_.-`: models of Anthropic
    refuse a schema with other keys, and none has to be escaped, which is where small models go wrong.
    """
    names = [_as_key(label) for label in labels]
    often = Counter(name.casefold() for name in names)
    return {
        label: name if name and often[name.casefold()] == 1 else f"class_{place}"
        for place, (label, name) in enumerate(zip(labels, names, strict=True), 1)
    }


def _as_key(label: str) -> str:
    """Return a label's name as a key, or nothing where letters of it would be lost."""
    parts = (sign for sign in unicodedata.normalize("NFKD", label) if not unicodedata.combining(sign))
    spelled = "".join(parts)
    if any(sign.isalnum() and not sign.isascii() for sign in spelled):
        return ""
    name = "_".join(_PLAIN.findall(spelled))
    # What looks like a number given to another label would be taken for it.
    return "" if len(name) > LONGEST_KEY or _NUMBERED.fullmatch(name.casefold()) else name


@dataclass(frozen=True, slots=True)
class Keys:
    """Which label a key means: as it is written, or by its words alone where one label has them."""

    exact: Mapping[str, str]
    by_words: Mapping[str, str]

    @classmethod
    def of(cls, keys: Mapping[str, str]) -> "Keys":
        """Take label to key; labels may be written in place of their keys."""
        exact = {label: label for label in keys} | {key: label for label, key in keys.items()}
        found: dict[str, set[str]] = {}
        for spelling, label in exact.items():
            found.setdefault(_words(spelling), set()).add(label)
        return cls(exact, {words: min(some) for words, some in found.items() if words and len(some) == 1})

    def label(self, key: str) -> str | None:
        """Return the one label that a key means."""
        return self.exact.get(key) or self.by_words.get(_words(key))


def _words(name: str) -> str:
    return " ".join(re.findall(r"\w+", bare(name).replace("_", " ")))


@dataclass(frozen=True, slots=True)
class Dictionary:
    """What a reply holds for some labels."""

    values: Mapping[str, str | None]
    """Label to its text as written; None where the value is no text. Labels it lacks are not there."""
    others: int
    """Keys that mean no label."""


def read_dictionary(text: str, keys: Keys, whole: bool = True) -> Dictionary | Unparsed:
    """Read a reply as a dictionary of texts by label; it never raises.

    JSON and Python notation, damaged or not, are found in prose and fences; several dictionaries are one,
    the first text of a label counts. Of a reply that is not `whole`, cut off by the length limit, the pairs
    before the cut count. Reasons of Unparsed: `empty`; `unparsed`, no dictionary found; `misfit`, one without
    any of the labels; `cut_off`.
    """
    values: dict[str, str | None] = {}
    others, reason = 0, "unparsed" if text.strip() else "empty"
    for found in _dictionaries(text, whole):
        reason = "misfit"
        named = {key: label for key in found if (label := keys.label(key)) is not None}
        # One without labels may only be what the real one is wrapped in.
        others += len(found) - len(named) if named else 0
        for key, label in named.items():
            # The form that the prompt shows may stand before the answer: `...` is no text yet.
            if not bare(values.get(label) or ""):
                values[label] = _text(found[key])
    return Dictionary(values, others) if values else Unparsed(reason if whole else "cut_off", text)


def _dictionaries(text: str, whole: bool) -> Iterator[dict[str, Any]]:
    start, comma = (None, 0) if whole else _cut(text)
    # A repair would take a half text for a text: what the cut is in is not repaired.
    yield from objects(text[:start], whole or start is not None)
    if comma:
        try:
            yield json.loads(text[start:comma] + "}", strict=False)
        except (ValueError, RecursionError):
            return


def _cut(text: str) -> tuple[int | None, int]:
    """Return where the JSON object begins that a text ends within, and where the last whole pair of it ends.

    None when it ends within none, 0 when there is no whole pair.
    """
    depth, start, comma, inside = 0, 0, 0, False
    for match in _STEP.finditer(text):
        mark, place = match.group(), match.start()
        if mark == '"':
            inside = not inside and depth > 0
        elif inside or (depth == 0 and mark != "{"):
            continue
        elif mark in ("{", "["):
            start, comma = (place, 0) if depth == 0 else (start, comma)
            depth += 1
        elif mark in ("}", "]"):
            depth -= 1
        elif mark == "," and depth == 1:
            comma = place
    return (start, comma) if depth else (None, 0)


def _text(value: Any) -> str | None:
    """Return the one text that a value is or holds; one that cannot be written again is none."""
    inner = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inner, list):
        texts = [each for each in inner if isinstance(each, str)]
        inner = texts[0] if len(texts) == 1 else None
    if not isinstance(inner, str):
        return None
    return inner if inner.isascii() or inner == inner.encode("utf-8", "replace").decode() else None
