"""The tokenizer of a teacher that is a Hugging Face model."""

from array import array
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.errors import ModelError
from cluster.models import converted_model
from synth.records import Message, Prompt

REMEMBERED = 1024
"""Prompts whose tokens are kept: a prompt is counted before it is sent, and may be sent again and again."""


class TeacherTokenizer:
    """Counts, cuts and renders for one model; chats go through the model's own template."""

    def __init__(self, model: str) -> None:
        from transformers import AutoTokenizer

        self.folder: Path = converted_model(model)
        self.model = model
        self.inner: Any = AutoTokenizer.from_pretrained(self.folder, padding_side="left")
        if self.inner.pad_token_id is None:
            self.inner.pad_token = self.inner.eos_token
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._tokenize)

    def count(self, text: str) -> int:
        """Return how many tokens a text has, special ones left out."""
        return len(self.inner(text, add_special_tokens=False)["input_ids"])

    def cut(self, text: str, tokens: int) -> str:
        """Return the longest prefix of a text with at most so many tokens."""
        found = self.inner(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        return text if len(found) <= tokens else text[: found[tokens - 1][1]]

    def encode(self, prompt: Prompt, room: int) -> list[int]:
        """Return the token ids of a prompt, its start cut off where it is longer than the room there is.

        The end of a prompt holds the document and the cue, so it is the first shots that give way
        (published SynthesizRR code: truncation on the left).
        """
        if room < 1:
            raise ModelError(f"model {self.model}: method.sampling.max_tokens leaves no room for a prompt")
        return list(self.ids(prompt)[-room:])

    def ids(self, prompt: Prompt) -> Sequence[int]:
        """Return all token ids of a prompt, those that mark its start included."""
        return self._remembered(prompt)

    def as_text(self, prompt: Prompt) -> str:
        """Return a prompt as the model is to read it."""
        return prompt if isinstance(prompt, str) else self._chat(prompt)

    def _tokenize(self, prompt: Prompt) -> Sequence[int]:
        ids = self.inner(self.as_text(prompt), add_special_tokens=isinstance(prompt, str))["input_ids"]
        # Four bytes a token; a list has ten times that.
        return array("i", ids)

    def _chat(self, turns: Sequence[Message]) -> str:
        if not self.inner.chat_template:
            raise ModelError(f"model {self.model}: has no chat template; set method.render=raw")
        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        text: str = self.inner.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text
