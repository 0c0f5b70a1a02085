"""What kinds of characters texts are made of."""

import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_LOT = 2_000
_OTHER, _SPACE, _DIGIT, _PUNCTUATION = range(4)


def character_shares(texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of digits and of punctuation among the characters of each text, white space apart.

    Digits are Unicode's decimal ones, punctuation its categories P*; NaN for a text of white space alone.
    """
    counts = np.zeros((len(texts), 4))
    for start in range(0, len(texts), _LOT):
        lot = texts[start : start + _LOT]
        kinds = _kinds("".join(lot))
        ends = np.cumsum([len(text) for text in lot])
        for kind in (_SPACE, _DIGIT, _PUNCTUATION):
            upto = np.concatenate(([0], np.cumsum(kinds == kind)))
            counts[start : start + len(lot), kind] = np.diff(upto[ends], prepend=0)
        counts[start : start + len(lot), _OTHER] = np.diff(ends, prepend=0)
    seen = counts[:, _OTHER] - counts[:, _SPACE]
    seen[seen == 0] = np.nan
    return counts[:, _DIGIT] / seen, counts[:, _PUNCTUATION] / seen


def _kinds(text: str) -> NDArray[np.uint8]:
    """Return the kind of each character."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    table = np.zeros(int(codes.max(initial=0)) + 1, np.uint8)
    for code in np.flatnonzero(np.bincount(codes, minlength=1)).tolist():
        table[code] = _kind(chr(code))
    return table[codes]


def _kind(sign: str) -> int:
    if sign.isspace():
        return _SPACE
    category = unicodedata.category(sign)
    if category == "Nd":
        return _DIGIT
    return _PUNCTUATION if category.startswith("P") else _OTHER
