"""Escaping for Markdown: whatever a text holds, it shows as itself and starts nothing."""

import html
import re
from typing import Any

from markupsafe import Markup

_SPECIAL = re.compile(r"([\\`*_\[\]{}|~#$!])")


def escaped(value: Any) -> Markup:
    """Return a value as one line of Markdown text; what is marked safe already stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(_SPECIAL.sub(r"\\\1", html.escape(one_line(value), quote=False)))


def code(value: Any) -> Markup:
    """Return a value as inline code, fit for a table cell."""
    line = one_line(value)
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return Markup(f"{fence}{space}{line.replace('|', chr(92) + '|')}{space}{fence}") if line else Markup()


def verbatim(value: Any) -> Markup:
    """Return a value for the middle of a line in a fenced block, where nothing is markup."""
    return Markup(one_line(value))


def one_line(value: Any) -> str:
    """Return a value's text with every run of white space as one space."""
    return " ".join(str(value).split())
