"""HTML to plain text: tags out, entities in, blocks on lines of their own.

A scanner of its own, because html.parser takes quadratic time on broken HTML: hours for a few megabytes.
"""

import re
from html import unescape

_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "br", "caption", "center", "dd", "details"),
        *(
            "dialog",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "form",
            "h1",
            "h2",
            "h3",
        ),
        *(
            "h4",
            "h5",
            "h6",
            "head",
            "header",
            "hr",
            "legend",
            "li",
            "main",
            "nav",
            "ol",
            "option",
            "p",
            "pre",
        ),
        *("section", "summary", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"),
    )
)
_SILENT = {
    name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in ("script", "style", "template", "noscript")
}
_TAG = re.compile(r"</?([a-zA-Z][^\s/>]*)")
_QUOTED = re.compile(r"""=\s*("[^"]*"|'[^']*')""")
_MOST_ENDS = 8
"""How many `>` inside the quotes of one tag are looked past."""
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r" ?\n[ \n]*")


def plain_text(html: str) -> str:
    """Return what a reader of a page sees: no tags, scripts or styles; entities as their characters."""
    if "<" not in html and "&" not in html:
        return html.strip()
    text = _entities("".join(_Scanner(html).texts())).replace("\r", "\n")
    return _LINES.sub("\n", _SPACES.sub(" ", text)).strip()


def _entities(text: str) -> str:
    try:
        return unescape(text)
    except ValueError:  # a number of thousands of digits
        return text


class _Scanner:
    """Goes through HTML once; what has no end is taken for text."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._absent: set[str] = set()
        """What was looked for and is nowhere ahead."""

    def texts(self) -> list[str]:
        html, found, at = self._html, [], 0
        while (start := html.find("<", at)) >= 0:
            found.append(html[at:start])
            at, put = self._markup(start)
            found.append(put)
        return [*found, html[at:]]

    def _markup(self, start: int) -> tuple[int, str]:
        """Return where the text goes on after a `<`, and what stands for what lies between."""
        html = self._html
        if html.startswith(("<!", "<?"), start):
            closing = "-->" if html.startswith("<!--", start) else ">"
            end = self._find(closing, start)
            return (end + len(closing), "") if end >= 0 else (start + 1, "<")
        tag = _TAG.match(html, start, start + 64)
        end = self._end_of_tag(tag.end()) if tag else -1
        if tag is None or end < 0:
            return start + 1, "<"
        name = tag[1].lower()
        if name in _SILENT and html[start + 1] != "/":
            return self._end_of_silence(name, end), ""
        return end, "\n" if name in _BLOCKS else ""

    def _end_of_tag(self, start: int) -> int:
        """Return where a tag ends: after a `>` that is not inside the quotes of an attribute."""
        first = end = self._find(">", start)
        for _ in range(_MOST_ENDS):
            if end < 0:
                break
            bare = _QUOTED.sub("", self._html[start:end])
            if '="' not in bare and "='" not in bare:
                return end + 1
            end = self._find(">", end + 1)
        return first + 1 if first >= 0 else -1

    def _end_of_silence(self, name: str, start: int) -> int:
        """Return where what no reader sees ends: after its closing tag, if it has one."""
        if name not in self._absent:
            closing = _SILENT[name].search(self._html, start)
            if closing is not None:
                return closing.end()
            self._absent.add(name)
        return start

    def _find(self, what: str, start: int) -> int:
        # Looking again for what is nowhere ahead would take quadratic time.
        if what in self._absent:
            return -1
        found = self._html.find(what, start)
        if found < 0:
            self._absent.add(what)
        return found
