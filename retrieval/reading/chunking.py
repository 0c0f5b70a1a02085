"""Long texts cut at sentence ends into chunks of so many tokens."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import replace

from retrieval.reading.cleaning import Passage
from retrieval.reading.counting import Counter
from retrieval.reading.sentences import SENTENCE_END

_WINDOW = 1 << 16
"""Characters that are tokenised at once: the memory does not grow with the text."""


def chunks(passage: Passage, counter: Counter, limit: int) -> Iterator[tuple[Passage, int]]:
    """Cut a passage into chunks that keep its title, and count each.

    A chunk with its title has at most limit tokens and ends where a sentence does, if one ends in it. Nothing
    but whitespace is lost. A title that would take more than half of a chunk begins the text instead.
    """
    taken = counter.count([f"{passage.title} " if passage.title else ""])[0]
    if passage.title and taken > limit // 2:
        passage = replace(passage, text=f"{passage.title}\n{passage.text}", title=None)
        taken = counter.count([""])[0]
    cutter = _Cutter(passage, counter, limit, max(1, limit - taken))
    while (chunk := cutter.next()) is not None:
        yield chunk


class _Cutter:
    def __init__(self, passage: Passage, counter: Counter, limit: int, budget: int) -> None:
        self._passage = passage
        self._counter = counter
        self._limit = limit
        self._budget = budget
        self._size = _WINDOW
        self._open(0)

    def next(self) -> tuple[Passage, int] | None:
        """Return the next chunk and its tokens; None at the end."""
        while True:
            rest = self._window[self._at :]
            self._at += len(rest) - len(rest.lstrip())
            left = len(self._starts) - bisect_left(self._starts, self._at)
            if left <= self._budget and not self._last:
                if self._at == 0:
                    self._size *= 2
                self._open(self._first + self._at)
                continue
            return self._take() if self._at < len(self._window) else None

    def _open(self, first: int) -> None:
        """Tokenise the next stretch of the text, from a character on."""
        text = self._passage.text
        self._first = first
        self._window = text[first : first + self._size]
        self._last = first + self._size >= len(text)
        spans = self._counter.spans(self._window)
        self._starts = [start for start, _ in spans]
        self._stops = [stop for _, stop in spans]
        ends = [match.end() for match in SENTENCE_END.finditer(self._window)]
        # At the edge of the window it is not known whether the sentence ends there.
        self._ends = ends if self._last else [end for end in ends if end < len(self._window)]
        self._at = 0

    def _take(self) -> tuple[Passage, int]:
        budget = self._budget
        while True:
            end = self._cut(budget)
            chunk = replace(self._passage, text=self._window[self._at : end].strip())
            tokens = self._counter.count([titled(chunk)])[0]
            # A text cut inside a word can have more tokens than it had as a part.
            if tokens <= self._limit or budget == 1:
                self._at = end
                return chunk, tokens
            budget = max(1, budget - (tokens - self._limit))

    def _cut(self, budget: int) -> int:
        token = bisect_left(self._starts, self._at)
        if len(self._starts) - token <= budget:
            return len(self._window)
        stop = max(self._stops[token + budget - 1], self._at + 1)
        ends = bisect_right(self._ends, stop)
        if ends and self._window[self._at : self._ends[ends - 1]].strip():
            return self._ends[ends - 1]
        return stop


def titled(passage: Passage) -> str:
    """Return what an encoder reads of a passage, as `Document.titled_text` does."""
    return f"{passage.title} {passage.text}" if passage.title else passage.text
