"""Terms: words and runs of words in lower case, as they stand in a text without punctuation between them.

Scripts without spaces between words (Han, kana, Thai, Khmer…) are read sign by sign: a pair of signs is what
comes nearest to a word in them.
"""

import re
from collections.abc import Collection, Iterator, Sequence

_SIGNS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_SIGN = re.compile(f"[{_SIGNS}]")
_SPACED_SIGNS = re.compile(f"(?<=[{_SIGNS}]) (?=[{_SIGNS}])")
_BREAK = re.compile(
    r"[!\"#$%&()*+,/:;<=>?@\[\\\]^_`{|}~¡¿«»،؛؟।॥\u2012-\u2015\u2018\u201a\u201c-\u201f\u2026"
    r"\u3001-\u3003\u3008-\u3020\uff01-\uff0f\uff1a-\uff20]+"
    r"|[.'-]+(?!\w)|(?<!\w)[.'-]+"
)
_SAY_NOTHING = """
a about after also an and are as at be been before being but by can could did do does during for from had
has have he her hers him his i if in into is it it's its itself me my of on onto or our ours out over she
so such than that the their theirs them then there these they this those through to under until up upon
us was we were what when where which while who whom whose will with within would you your yours
"""
MEANINGLESS = frozenset(_SAY_NOTHING.split())
"""English words that say nothing alone: no rewriting can do without them. Words such as `not`, `only` and
`never` are none of them: they may well give an answer away."""


def terms_of(text: str, lengths: Collection[int] = (1, 2)) -> set[str]:
    """Return the distinct terms of a text that have so many words."""
    found: set[str] = set()
    for words in _runs(text):
        for length in lengths:
            if length == 1:
                found.update(words)
            else:
                starts = range(len(words) - length + 1)
                found.update([_joined(words[start : start + length]) for start in starts])
    return found


def terms_in(text: str, terms: Sequence[str]) -> list[str]:
    """Return those of some terms that stand in a text as whole words, in their order."""
    found = terms_of(text, {len(words_of(term)) for term in terms})
    return [term for term in terms if term in found]


def words_of(phrase: str) -> list[str]:
    """Return all words of a phrase in lower case."""
    return [word for run in _runs(phrase) for word in run]


def as_term(phrase: str) -> str:
    """Return a phrase as terms are written: in lower case, one space between words; empty without words."""
    return _joined(words_of(phrase))


def says(term: str) -> bool:
    """Say whether a term has a word that says something alone."""
    return not all(word in MEANINGLESS for word in term.split(" "))


def stem(word: str) -> str:
    """Return a word without the ending of an English plural or genitive."""
    word = word.removesuffix("'s").removesuffix("s'")
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word


def likeness(text: str, original: str, without: Sequence[str] = ()) -> float:
    """Return the share, 0 to 1, of an original's words that a text has too, without regard to plurals.

    Words that say nothing alone do not count, nor do those of some terms; 1 when no words are left to count.
    """
    gone = {stem(word) for term in without for word in words_of(term)}
    words = {stem(word) for word in words_of(original) if word not in MEANINGLESS} - gone
    return len(words & {stem(word) for word in words_of(text)}) / len(words) if words else 1.0


def _runs(text: str) -> Iterator[list[str]]:
    """Yield the words of a text in runs that no punctuation interrupts."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _SIGN.sub(r" \g<0> ", folded.replace("’", "'"))
    for piece in _BREAK.split(folded):
        words = [word for word in piece.split() if word.isalnum() or any(map(str.isalnum, word))]
        if words:
            yield words


def _joined(words: Sequence[str]) -> str:
    term = " ".join(words)
    return term if term.isascii() else _SPACED_SIGNS.sub("", term)
