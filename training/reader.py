"""From a text to the tokens that a student reads."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.causal import Prompt
from training.dataset import TokenisedTexts, Tokens, flattened, tokenise


class Reader:
    """Tokenises texts for one student, each text cut after max_tokens; the prompt around it never is.

    An encoder's special tokens count among the max_tokens, a causal student's prompt does not.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, prompt: Prompt | None = None) -> None:
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.around = None if prompt is None else self._around(prompt)

    @property
    def pad_id(self) -> int:
        """Token that fills a batch up; nothing attends to it."""
        return int(self.tokenizer.pad_token_id)

    def __call__(self, texts: Sequence[str]) -> TokenisedTexts:
        """Return the tokens of texts, in their order."""
        if self.around is None:
            return tokenise(texts, self.tokenizer, self.max_tokens)
        head, tail = self.around
        bare = tokenise(texts, self.tokenizer, self.max_tokens, special=False)
        bounds = zip(bare.starts, bare.starts[1:], strict=False)
        return flattened([np.concatenate([head, bare.tokens[i:j], tail]) for i, j in bounds], self.pad_id)

    def _around(self, prompt: Prompt) -> tuple[Tokens, Tokens]:
        """Return the tokens before and after a text."""
        head = self.tokenizer(prompt.head, add_special_tokens=False)["input_ids"]
        tail = self.tokenizer(prompt.tail, add_special_tokens=False)["input_ids"]
        start = self.tokenizer.bos_token_id
        # A chat template writes the token that starts a text itself; without one the tokenizer adds it.
        if start is not None and start in self.tokenizer("")["input_ids"] and head[:1] != [start]:
            head = [start, *head]
        return np.array(head, dtype=np.int32), np.array(tail, dtype=np.int32)
