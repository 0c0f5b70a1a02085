"""Words, sentences and syllables of English text, counted by simple rules, and readability from them."""

import re
import unicodedata
from dataclasses import dataclass

REMEMBERED = 200_000
"""Words whose syllables are kept."""
_LATIN = r"A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f"
_WORD = re.compile(rf"[{_LATIN}]+(?:['’-][{_LATIN}]+)*")
_LETTERS = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?:\s+|$)|[。！？]+|\n\s*\n")
_VOWELS = re.compile(r"[aeiouyæœø]+")
_APART = re.compile(r"(?<![ct])ia|[aeiouy]ing$")
"""Vowels that stand together and are spoken apart: `dial`, `being`."""
_SILENT = re.compile(
    r"(?<![^aeiouylr]l)"  # table, tables, handled
    r"(?:(?<![aeiouy])e|(?<![aeiouycgsxz])(?<!ch)(?<!sh)es|(?<![aeiouydt])ed)$"  # make, makes, asked
)


@dataclass(frozen=True, slots=True)
class Readable:
    """What readability depends on."""

    words: int
    sentences: int
    syllables: int

    @property
    def ease(self) -> float:
        """Flesch reading ease: about 100 very easy, 0 very hard (Flesch 1948)."""
        return 206.835 - 1.015 * self.words / self.sentences - 84.6 * self.syllables / self.words

    @property
    def grade(self) -> float:
        """Flesch-Kincaid grade: years of school needed (Kincaid et al. 1975)."""
        return 0.39 * self.words / self.sentences + 11.8 * self.syllables / self.words - 15.59


class _Syllables(dict[str, int]):
    """Syllables of words that were asked for."""

    def __missing__(self, word: str) -> int:
        counted = sum(map(_spoken, word.casefold().split("-")))
        if len(self) < REMEMBERED:
            self[word] = counted
        return counted


_SYLLABLES = _Syllables()


def _spoken(word: str) -> int:
    """Count groups of vowels, without a silent e; one at least."""
    # An e with an accent is a vowel, and never silent.
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", word) if not unicodedata.combining(sign))
    groups = len(_VOWELS.findall(plain)) + len(_APART.findall(plain))
    return max(1, groups - bool(_SILENT.search(word)))


def syllables(word: str) -> int:
    """Return the syllables of an English word, by rule."""
    return _SYLLABLES[word]


def sentences(text: str) -> int:
    """Return how many pieces between full stops and the like, or empty lines, have a letter or digit."""
    return sum(any(map(str.isalnum, piece)) for piece in _SENTENCE_END.split(text))


def readable(text: str) -> Readable | None:
    """Count a text's words in Latin letters, their syllables and the sentences; None without such words.

    Numbers are no words here.
    """
    words = _WORD.findall(text)
    if not words:
        return None
    return Readable(len(words), max(1, sentences(text)), sum(map(_SYLLABLES.__getitem__, words)))


def capitals(text: str) -> float:
    """Return the share of a text's words that begin with a capital letter; NaN without words in letters."""
    words = _LETTERS.findall(text)
    return sum(word[0].isupper() for word in words) / len(words) if words else float("nan")
