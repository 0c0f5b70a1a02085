"""Where sentences end, and texts cut there."""

import re
from typing import Protocol

SENTENCE_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s|$)|[。！？][”’」』\uff09)]*")


class Cutter(Protocol):
    """A tokenizer, as far as cutting needs it."""

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest prefix of a text with at most so many tokens."""


def cut_at_sentence(text: str, tokenizer: Cutter, tokens: int) -> str:
    """Cut a text to so many tokens and back to its last sentence end; without one, to the tokens."""
    cut = tokenizer.cut(text, tokens)
    if len(cut) == len(text):
        return text
    ends = [match.end() for match in SENTENCE_END.finditer(cut)]
    return cut[: ends[-1]] if ends else cut
