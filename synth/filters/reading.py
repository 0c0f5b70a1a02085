"""A text as the filters see it: its words, without case and punctuation.

Scripts that put no spaces between words (Han, kana, Thai, Khmer…) and emoji count sign by sign.
"""

import unicodedata

_UNSPACED = (
    (0x0E00, 0x0EFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x2FDF),
    (0x3005, 0x3007),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)
"""Thai and Lao, Myanmar, Khmer, then Chinese and Japanese signs."""
_QUOTES = (("’", "'"), ("“", " "), ("”", " "), ("—", " "), ("–", " "), ("…", " "))
"""What makes most English texts more than ASCII; without it they take the fast way."""


class _Signs(dict[int, str | None]):
    """What each character becomes: itself, nothing, white space, or a word of its own."""

    def __missing__(self, code: int) -> str | None:
        sign = chr(code)
        kind = unicodedata.category(sign)
        made: str | None = " "
        if kind == "So" or (kind[0] in "LN" and any(first <= code <= last for first, last in _UNSPACED)):
            made = f" {sign} "
        elif kind[0] in "LNM":
            made = sign
        elif kind == "Cf" or sign == "'":
            made = None
        self[code] = made
        return made


_SIGNS = _Signs()


class Reading:
    """A text, read once for all filters; the cost is linear in its length."""

    __slots__ = ("length", "text", "words")

    def __init__(self, text: str) -> None:
        self.text = text
        folded = text.casefold()
        if not folded.isascii():
            for sign, plain in _QUOTES:
                folded = folded.replace(sign, plain)
        plain = folded.translate(_SIGNS)
        self.words = plain.encode("utf-8", "surrogatepass").split()
        """UTF-8 of each word."""
        # A sign that stands for itself brought two spaces; two of them are about a word.
        lone = 0 if plain.isascii() else max(0, len(plain) - len(folded)) // 2
        self.length = len(self.words) - lone // 2
        """Number of words; of signs that stand for themselves, half."""
