"""Reading a rewritten text out of a chat model's reply, without opening words and remarks about it."""

import re
from dataclasses import replace
from functools import lru_cache

from synth.prompting import read_reply
from synth.records import Example, Reply

_OPENING = (
    r"[*_#\s]*"
    r"(?:(?:sure|certainly|of course|okay|here(?:['’]s| is| are| it is| you go))\b[^:\n]{0,100}"
    r"|(?:\w+ ){0,2}HEADER|[^:\n]{0,100}(?=:[*_ ]*\n))\s*:[*_\s]*"
)
_PARAGRAPH = re.compile(r"\n\s*\n")


def rewritten(reply: Reply, original: str, header: str) -> tuple[str, str | None]:
    """Return the new text of a reply, and `empty` or `cut_off` when it is none; it never raises.

    An opening such as `Sure, here it is:`, the header, or a first line with a colon behind it is left out
    unless the original opens so too. Of an original of one paragraph the first paragraph is the new text.
    """
    body, whole = reply.text.strip(), reply.finish_reason != "length"
    opening = _opening(header)
    for _ in range(2):
        if (opened := opening.match(body)) and not opening.match(original):
            body = body[opened.end() :]
    if not _PARAGRAPH.search(original):
        body, *rest = _PARAGRAPH.split(body, maxsplit=1)
        # The limit cut what followed.
        whole = whole or bool(rest)
    outcome = read_reply(replace(reply, text=body, finish_reason="stop"), "", [])[0]
    text = outcome.fields["text"] if isinstance(outcome, Example) else ""
    if whole and text:
        return text, None
    return text, "empty" if whole else "cut_off"


@lru_cache(maxsize=8)
def _opening(header: str) -> re.Pattern[str]:
    return re.compile(_OPENING.replace("HEADER", re.escape(header)), re.IGNORECASE)
