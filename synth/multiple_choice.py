"""Which of some choices a text means."""

import re
import unicodedata
from collections.abc import Callable, Sequence

SHORT = 3
"""A choice of so few letters may be a word of any sentence; so many first letters stand for a longer one."""
FEW = 5
"""Words of a reply, up to which a short choice may be the last of them."""

_QUOTES = str.maketrans(
    {**dict.fromkeys("“”„‟«»", '"'), **dict.fromkeys("\u2018\u2019\u201a\u201b\u00b4`", "'")}
)
# Full-width punctuation is plain once normalised.
_EDGES = " \t\r\n\"'*_.,;:!?()[]{}<>。、"
_AFTER = ".,;:!?)\"'*\n—–-。、"
_NEGATED = re.compile(
    r"(?:\b(?:not|never|no|nor|neither|cannot)|n't)(?: (?:at all|an?|the|really|very|quite))* $"
)


def choose(text: str, choices: Sequence[str]) -> str | None:
    """Return the one choice that a text means, or None; it never raises.

    The text, or its first line, is a choice, without regard to case, spacing, quotes and punctuation around
    it; or it begins with one and goes on after a full stop or the like; or one choice and no other is a word
    of it; or it is the beginning of one.
    """
    if text in choices:
        return text
    for part in (text, text.strip().partition("\n")[0]):
        for form in (str.strip, _plain, bare):
            if (found := same(part, choices, form)) is not None:
                return found
    return _leading(text, choices) or _contained(_plain(text), choices) or _begun(bare(text), choices)


def same(text: str, choices: Sequence[str], form: Callable[[str], str]) -> str | None:
    """Return the one choice that has the same form as a text."""
    wanted = form(text)
    found = [choice for choice in choices if form(choice) == wanted] if wanted else []
    return found[0] if len(found) == 1 else None


def _plain(text: str) -> str:
    """Return a text without differences of case, spacing and kinds of quotes."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold().split())


def bare(text: str) -> str:
    """Return a text as `_plain` does, and without quotes and punctuation around it."""
    return _plain(text).strip(_EDGES)


def _leading(text: str, choices: Sequence[str]) -> str | None:
    # Line ends matter here, so that spacing is not evened out.
    start = unicodedata.normalize("NFKC", text).translate(_QUOTES).casefold().lstrip(_EDGES)
    found = [choice for choice in choices if (form := bare(choice)) and start.startswith(form)]
    longest = max(found, key=lambda choice: len(bare(choice)), default=None)
    if longest is None or sum(bare(choice) == bare(longest) for choice in found) > 1:
        return None
    return longest if start[len(bare(longest)) :].lstrip(" ")[:1] in tuple(_AFTER) else None


def _contained(text: str, choices: Sequence[str]) -> str | None:
    """Return the one choice that is a word of a text, and is not denied there."""
    many = len(text.split()) > FEW
    taken: list[tuple[int, int]] = []
    found = set[str]()
    for choice in sorted(choices, key=len, reverse=True):
        form = bare(choice)
        short = len(form) <= SHORT and form.isascii()
        if not form or (short and many):
            continue
        for match in re.finditer(re.escape(form), text):
            start, end = match.span()
            if not _is_word(text, start, end) or any(start < e and s < end for s, e in taken):
                continue
            if short and text[end:].strip(_EDGES):
                continue
            taken.append((start, end))
            found.add(choice)
            if _NEGATED.search(text[max(0, start - 32) : start]):
                return None
    return found.pop() if len(found) == 1 else None


def _is_word(text: str, start: int, end: int) -> bool:
    """Say whether no letter joins a place to what is around it; scripts without spaces join nothing."""
    edges = ((text[start - 1 : start], text[start]), (text[end - 1], text[end : end + 1]))
    return not any(_joins(left) and _joins(right) for left, right in edges)


def _joins(letter: str) -> bool:
    return letter.isalnum() and unicodedata.category(letter) != "Lo"


def _begun(text: str, choices: Sequence[str]) -> str | None:
    found = [choice for choice in choices if _plain(choice).startswith(text)]
    return found[0] if len(text) >= SHORT and len(found) == 1 else None
