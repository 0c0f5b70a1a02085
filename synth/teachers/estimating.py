"""Tokens of a model that is elsewhere: by a tokenizer that is named, or by an estimate and a bound."""

from functools import lru_cache

from cluster.models import converted_model, resolve_model
from synth.records import Prompt
from synth.tokens import REMEMBERED, TeacherTokenizer

QUARTERS_ASCII, QUARTERS_OTHER = 1, 3
"""Quarters of a token that a character makes: four letters of English are about a token, other scripts make
between half a token and a whole one of each character."""
TURN_TOKENS = 16
"""Tokens of the marks around one turn of a chat."""
TEMPLATE_TOKENS = 128
"""Tokens that a chat template may add of its own, such as a system prompt with the date."""


class Estimate:
    """A tokenizer for planning, for a teacher whose own is not at hand: it counts characters."""

    def count(self, text: str) -> int:
        """Return about how many tokens a text has."""
        return -(-_quarters(text) // 4)

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest prefix of a text that is estimated at so many tokens at most."""
        left = 4 * tokens
        for place, character in enumerate(text):
            left -= QUARTERS_ASCII if character < "\x80" else QUARTERS_OTHER
            if left < 0:
                return text[:place]
        return text


class NamedTokenizer(TeacherTokenizer):
    """The tokenizer of a model whose weights are not needed here, and not fetched."""

    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer

        found = resolve_model(model)
        self.model = model
        # Transformers takes seconds to read the tokenizer of a GGUF file; once converted, it does not.
        source = str(converted_model(model)) if found.gguf_file else found.source
        revision = {} if found.gguf_file else found.arguments
        self.inner = AutoTokenizer.from_pretrained(source, **revision)
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._tokenize)


def _quarters(text: str) -> int:
    if text.isascii():
        return QUARTERS_ASCII * len(text)
    others = sum(character >= "\x80" for character in text)
    return QUARTERS_ASCII * (len(text) - others) + QUARTERS_OTHER * others


def most_tokens(prompt: Prompt) -> int:
    """Return a number of tokens that a prompt does not exceed: a byte-level tokenizer makes one of a byte."""
    if isinstance(prompt, str):
        return _bytes(prompt) + TURN_TOKENS
    return TEMPLATE_TOKENS + sum(_bytes(turn.role) + _bytes(turn.content) + TURN_TOKENS for turn in prompt)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
