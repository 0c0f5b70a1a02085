"""Lists that a teacher writes: reading them out of whatever stands around them, and asking for them."""

import json
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby, islice
from typing import Any

import pyarrow as pa

from cluster.errors import RunError
from synth.method import Generate
from synth.records import Prompt, Sampling
from synth.structured import RETRY_TEMPERATURE

LONGEST = 50_000
"""Characters of a reply that are looked at."""
PLAIN = 3
"""Lines in a row without any mark that are taken for a list; fewer are prose."""
STARTS = 8
"""Places of a text at which an array is looked for."""

_NUMBERED = re.compile(
    r"\s*(?:[#>*_]+\s*)?(?:[^\W\d_]{1,12} )?[(\[#]?(\d{1,3})\\?[.):\]\u3001\uff0e\uff1a](?!\d)[\s_*]*(.*)"
)
_BULLETED = re.compile(r"(\s*)(?:[-*+•·‣▪●○\u2013—]|\\-)\s+(.*)")
_TEXTS = re.compile(
    r'"((?:[^"\\]|\\.)*)"(?=\s*(?:[,\]}]|$))'
    r"|'(.{1,600}?)'(?=\s*(?:[,\]}]|$))"
    r"|“([^”]*)”(?=\s*(?:[,\]}]|$))"
)
_BARE = re.compile(r"#+\W*\d+\W*|\d{1,3}[.):]")
"""What is left of an entry that was numbered and never written."""
_QUOTES = {'"': '"', "“": "”", "„": "“", "'": "'", "«": "»", "`": "`"}


def numbered(text: str, most: int, whole: bool = True) -> list[str]:
    """Return the entries of a list in a reply, at most so many, each once whatever its case; it never raises.

    One line is one entry. Numbers win over bullets, since bullets below numbers explain them; a JSON array
    counts too, and without any marks three or more lines in a row. Prose around a list is left out. A reply
    that is not `whole` was cut off by the length limit: its last entry is lost, as it may be half of one.
    """
    text = text[:LONGEST]
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("```")]
    entries = _array(text) or _numbers(lines) or _bullets(lines) or _plain(lines)
    return _distinct(entries if whole else entries[:-1])[: max(0, most)]


@dataclass(slots=True)
class Stage:
    """A stage of a method's `prepare` that asks for lists, and what came of it."""

    name: str
    """What is listed."""
    asked: int = 0
    """Entries wanted."""
    got: int = 0
    replies: int = 0
    unread: int = 0
    """Replies without an entry that could be used."""
    last: str = ""
    """The last reply."""

    async def listed(
        self,
        generate: Generate,
        prompt: Prompt,
        sampling: Sampling,
        most: int,
        letters: int,
        attempts: int = 3,
        known: Container[str] = (),
    ) -> list[str]:
        """Ask until a list is there, at most so many times, and return at most so many of its entries.

        Entries of more letters have run away and are left out, as are those whose `casefold` is known.
        """
        for _ in range(attempts):
            reply = await generate(prompt, sampling)
            self.replies, self.last = self.replies + 1, reply.text
            read = numbered(reply.text, len(reply.text), whole=reply.finish_reason != "length")
            usable = [each for each in read if len(each) <= letters and each.casefold() not in known][:most]
            self.got += len(usable)
            if usable:
                return usable
            self.unread += 1
            if sampling.temperature == 0:
                sampling = replace(sampling, temperature=RETRY_TEMPERATURE)
        return []

    def failed(self, remedy: str) -> RunError:
        """Return the error of a stage that gave nothing at all."""
        return RunError(
            f"prepare: the teacher was asked {self.replies} times for {self.name}; no list could be read; it "
            f"wrote {self.last[:200]!r}; {remedy}"
        )


def stages(*each: Stage) -> pa.Table:
    """Return the table of a method's stages: stage, entries asked and got, replies, and unread ones."""
    counts = ("asked", "got", "replies", "unread")
    columns: dict[str, list[Any]] = {"stage": [stage.name for stage in each]}
    return pa.table(columns | {name: [getattr(stage, name) for stage in each] for name in counts})


def _numbers(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    before = ""
    for line in lines:
        match = _NUMBERED.match(line)
        if match is None:
            before = line if line.strip() else before
            continue
        number, rest = int(match[1]), match[2]
        # A plain continuation of a prompt that ends in "1." begins with the first entry.
        if not found and number == 2 and before.strip() and not before.rstrip().endswith(":"):
            found.append(before)
        found.extend(_split(rest, number))
    # One number above several bullets heads them.
    return found if len(found) > 1 or len(_bullets(lines)) < 2 else []


def _split(rest: str, number: int) -> Iterator[str]:
    """Yield the entries of one line, where the next numbers follow in it."""
    while (match := re.search(rf"\s{number + 1}[.)]\s", rest)) is not None:
        yield rest[: match.start()]
        rest, number = rest[match.end() :], number + 1
    yield rest


def _bullets(lines: Sequence[str]) -> list[str]:
    found = [match for line in lines if (match := _BULLETED.match(line))]
    # Bullets that stand further in explain those above them.
    edge = min((len(match[1].expandtabs()) for match in found), default=0)
    return [match[2] for match in found if len(match[1].expandtabs()) <= edge + 1]


def _plain(lines: Sequence[str]) -> list[str]:
    heads = [line.strip() for line in lines]
    blocks = [list(block) for full, block in groupby(heads, key=bool) if full]
    longest = [line for line in max(blocks, key=len, default=[]) if not line.endswith(":")]
    return longest if len(longest) >= PLAIN else []


def _array(text: str) -> list[str]:
    """Return the texts of the first JSON array of texts, also of a damaged one or one that was cut off."""
    alone = text.lstrip("`jsonJSON \n\r\t").startswith(("[", "{"))
    for match in islice(re.finditer(r"\[(?=\s*[\"'{“])", text), STARTS):
        try:
            value: Any = json.JSONDecoder(strict=False).raw_decode(text, match.start())[0]
        except (ValueError, RecursionError):
            texts = _salvaged(text, match.start())
        else:
            texts = [told for each in value if (told := _told(each))]
        # A word in brackets and quotes may stand in any prose.
        if len(texts) > 1 or (texts and alone):
            return texts
    return []


def _salvaged(text: str, start: int) -> list[str]:
    closed = re.compile(r"[\"'”}]\s*,?\s*\]").search(text, start)
    piece = text[start : closed.end() if closed else None]
    found = (next(chain(filter(None, match.groups()), [""])) for match in _TEXTS.finditer(piece))
    return [re.sub(r"\\([\"'\\])", r"\1", each) for each in found]


def _told(entry: Any) -> str:
    """Return an entry's text; that of an object is its first text."""
    values = entry.values() if isinstance(entry, dict) else [entry]
    return next((value for value in values if isinstance(value, str)), "")


def _distinct(entries: Iterable[str]) -> list[str]:
    kept: dict[str, str] = {}
    for entry in map(_cleaned, entries):
        if any(letter.isalnum() for letter in entry) and not _BARE.fullmatch(entry):
            kept.setdefault(entry.casefold(), entry)
    return list(kept.values())


def _cleaned(entry: str) -> str:
    """Return an entry on one line, without bold type, wrapping quotes, and the comma or colon behind it."""
    # Half a surrogate pair cannot be stored.
    sound = entry.encode(errors="ignore").decode()
    text = " ".join(sound.replace("**", "").split()).rstrip(",;: ")
    if len(text) > 1 and _QUOTES.get(text[0]) == text[-1] and text[0] not in text[1:-1]:
        text = text[1:-1].strip()
    return text
