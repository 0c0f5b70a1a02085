"""Replies held to some choices, token by token, for engines that let a function say what may come next."""

from collections.abc import Sequence
from typing import Any

_END = -1
"""Key of a choice's end among the tokens that may follow."""

Trie = dict[int, "Trie"]


class ChoiceGuide:
    """Says which tokens may follow a reply so far, as `generate(prefix_allowed_tokens_fn=…)` asks."""

    def __init__(self, choices: Sequence[Sequence[int]], end: int, width: int) -> None:
        """Take the tokens of each choice, the token that ends a reply, and the length of the prompts."""
        self._root: Trie = {}
        self._end = end
        self._width = width
        for tokens in choices:
            node = self._root
            for token in tokens:
                node = node.setdefault(token, {})
            node[_END] = {}

    def __call__(self, row: int, tokens: Any) -> list[int]:
        """Return the tokens that may follow a prompt and its reply so far."""
        node: Trie | None = self._root
        for token in tokens[self._width :].tolist():
            node = None if node is None else node.get(token)
        if node is None:
            # The reply is complete; what follows is padding.
            return [self._end]
        return [self._end if token == _END else token for token in node]
