"""From a row to a passage: columns mapped and joined, HTML stripped, what cannot be used refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from retrieval.reading.markup import plain_text
from retrieval.reading.records import Refusal, Row, row_text
from retrieval.settings import CorpusSettings

MAX_CHARACTERS = 100_000
"""Of a document that is kept whole."""
MOST_CHARACTERS = 10_000_000
"""Of a document that is truncated or cut into chunks, or that has HTML to be stripped."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A checked row before it is measured and cut."""

    text: str
    title: str | None = None
    key: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class _Unusable(Exception):
    """Why a row cannot be used: a reason to count by, and a message."""


class Cleaner:
    """Turns the rows of one corpus into passages."""

    def __init__(self, settings: CorpusSettings) -> None:
        self._text = settings.text
        self._title = settings.title
        self._key = settings.key
        self._metadata = settings.metadata
        self._html = settings.html
        self._most = MAX_CHARACTERS if settings.long == "keep" else MOST_CHARACTERS
        named = [*settings.text, settings.title, settings.key, *settings.metadata]
        self.columns = tuple(dict.fromkeys(name for name in named if name))

    def clean(self, row: Row) -> Passage | Refusal:
        """Return the passage of a row, or why there is none."""
        try:
            return self._passage(row)
        except _Unusable as unusable:
            reason, message = unusable.args
            return Refusal(reason, message, row_text(row))

    def _passage(self, row: Row) -> Passage:
        text, title, key = self._join(row), self._optional(row), self._name(row)
        if self._html:
            _check_length(text, title, MOST_CHARACTERS)
            text, title = plain_text(text), plain_text(title)
        _check_length(text, title, self._most)
        if not text:
            raise _Unusable("empty", f"{_must(self._text[0])}; remove the row")
        metadata = {name: _as_text(row[name]) for name in self._metadata if row.get(name) is not None}
        return Passage(text, title or None, key, metadata)

    def _join(self, row: Row) -> str:
        texts, missing = [], []
        for name in self._text:
            value = row.get(name)
            if isinstance(value, str):
                if stripped := value.strip():
                    texts.append(stripped)
            elif value is not None:
                raise _Unusable("not_text", f"{_must(name)}; set corpus.text or remove the row")
            elif name not in row:
                missing.append(name)
        if len(missing) == len(self._text):
            known = ", ".join(row) or "none"
            raise _Unusable(
                "missing_column", f"has no column {missing[0]!r}, it has {known}; set corpus.text"
            )
        return "\n".join(texts)

    def _optional(self, row: Row) -> str:
        title = row.get(self._title) if self._title else None
        if title is not None and not isinstance(title, str):
            message = f"{self._title!r} is not a text; set corpus.title to another column"
            raise _Unusable("not_text", message)
        return (title or "").strip()

    def _name(self, row: Row) -> str | None:
        if self._key is None:
            return None
        if self._key not in row:
            known = ", ".join(row) or "none"
            raise _Unusable("missing_column", f"has no column {self._key!r}, it has {known}; set corpus.key")
        key = row[self._key]
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise _Unusable("not_text", f"{self._key!r} must be a text or a whole number; set corpus.key")
        return str(key)


def _check_length(text: str, title: str, most: int) -> None:
    length = len(text) + len(title)
    if length > most:
        remedy = "cut it into passages or remove the row"
        if most == MAX_CHARACTERS:
            remedy += ", or set corpus.long to truncate or chunk"
        raise _Unusable(
            "too_long", f"the text has {length:,} characters, at most {most:,} are taken; {remedy}"
        )


def _must(name: str) -> str:
    return f"{name!r} must be a text that is not empty"


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
