"""Grounding: do rows say something that only their own document says?

A row is grounded when it has a distinctive term in common with a document. The share of rows grounded in
their own document means little by itself, so it stands beside the share for a random other document of the
same label: what the label's vocabulary alone would give.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RARE_SHARE = 0.01
"""A word is rare when at most this share of the documents has it (and always when only one has it)."""
NAMED_SHARE = 0.10
"""A number, or a word with a capital inside a sentence, is distinctive up to this share of the documents."""
MIN_LETTERS = 3
"""Shorter words are never distinctive; numbers of two digits are."""

_TOKEN = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*")
_SENTENCE_ENDS = re.compile(r"[.!?:;\n]")


@dataclass(frozen=True, slots=True)
class Grounding:
    """Shares, 0 to 1, of the scored rows that are grounded in their own and in a random document."""

    own: float
    random: float
    rows: int


def grounding(
    texts: Sequence[str], documents_of_rows: Sequence[str], labels: Sequence[str], rng_seed: int
) -> Grounding | None:
    """Measure grounding of rows in the documents they were written from; None when no row can be scored.

    The three sequences run in parallel: text, its document's text, label name. A row is scored when its
    document is not empty and its label has another document to compare with. For the same input and rng_seed
    the result is the same.
    """
    distinctive = _distinctive(dict.fromkeys(document for document in documents_of_rows if document))
    rng = np.random.default_rng(rng_seed)
    pools = _pools(documents_of_rows, labels)
    names = {label: list(pool) for label, pool in pools.items()}
    own = other = rows = 0
    for text, document, label in zip(texts, documents_of_rows, labels, strict=True):
        pool = pools.get(label, {})
        if not document or len(pool) < 2:
            continue
        words = {token.casefold() for token in _TOKEN.findall(text)}
        rows += 1
        own += not words.isdisjoint(distinctive[document])
        other += not words.isdisjoint(distinctive[names[label][_another(pool[document], len(pool), rng)]])
    return Grounding(own / rows, other / rows, rows) if rows else None


def _pools(documents: Sequence[str], labels: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return, for each label, its distinct documents with their places in order of appearance."""
    pools: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for document, label in zip(documents, labels, strict=True):
        if document:
            pools[label].setdefault(document, len(pools[label]))
    return dict(pools)


def _another(place: int, places: int, rng: np.random.Generator) -> int:
    # Drawing from one place fewer and stepping over the own place is uniform over the others.
    drawn = int(rng.integers(places - 1))
    return drawn + (drawn >= place)


def _distinctive(documents: Mapping[str, None]) -> dict[str, set[str]]:
    """Return, for each distinct document, its distinctive terms in lower case."""
    words_of = {document: _words(document) for document in documents}
    frequency = Counter(word for words in words_of.values() for word in words)
    rare = max(1.0, RARE_SHARE * len(documents))
    named = max(1.0, NAMED_SHARE * len(documents))
    return {
        document: {word for word, name in words.items() if frequency[word] <= (named if name else rare)}
        for document, words in words_of.items()
    }


def _words(document: str) -> dict[str, bool]:
    """Return the document's words in lower case; True for numbers and capitals inside a sentence."""
    words: dict[str, bool] = {}
    end = 0
    for match in _TOKEN.finditer(document):
        token = match[0]
        opens = end == 0 or _SENTENCE_ENDS.search(document, end, match.start()) is not None
        end = match.end()
        number = any(character.isdigit() for character in token)
        if len(token) >= (2 if number else MIN_LETTERS):
            name = number or (token[0].isupper() and not opens)
            word = token.casefold()
            words[word] = words.get(word, False) or name
    return words
