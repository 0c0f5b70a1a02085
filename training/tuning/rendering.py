"""Lessons as token ids: the prompt as synthesis would send it, then the reply and the end of its turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from cluster.errors import DataError, ModelError
from training.dataset import Indices
from training.tuning.lessons import Turns

_PROBE = "A reply that no template has in it."


@dataclass(frozen=True, slots=True)
class TokenisedLessons:
    """Token ids of n lessons in one flat array; lesson i is `tokens[starts[i]:starts[i + 1]]`."""

    tokens: npt.NDArray[np.int32]
    starts: Indices
    prompts: Indices
    """Tokens of each lesson's prompt, (n,): the rest is the reply, and what is learnt."""
    left_out: int = 0
    """Lessons that were too long and are not among these."""

    def __len__(self) -> int:
        return len(self.prompts)

    def lengths(self) -> Indices:
        """Return the number of tokens of every lesson."""
        return np.diff(self.starts)

    def reply_tokens(self) -> Indices:
        """Return the number of tokens of every reply."""
        return self.lengths() - self.prompts


class Renderer:
    """Renders lessons for one tokenizer; errors name the lesson."""

    def __init__(self, tokenizer: Any, render: Literal["chat", "raw"], model: str) -> None:
        self._tokenizer = tokenizer
        self._chat = render == "chat"
        self._model = model
        if tokenizer.eos_token_id is None:
            raise ModelError(f"model {model}: its tokenizer has no token that ends a text")
        self._ends = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
        self._tail = self._after_a_reply() if self._chat else ""

    def tokenise(self, rows: Sequence[Turns], places: Sequence[str], max_tokens: int) -> TokenisedLessons:
        """Return the lessons that are no longer than max_tokens; DataError names one that is wrong."""
        split = self._split if self._chat else _as_it_is
        pairs = [split(turns, place) for turns, place in zip(rows, places, strict=True)]
        prompts = self._ids([prompt for prompt, _ in pairs])
        wholes = self._ids([prompt + reply for prompt, reply in pairs])
        found: list[tuple[list[int], int]] = []
        for (_, reply), prompt, whole in zip(pairs, prompts, wholes, strict=True):
            if whole[: len(prompt)] != prompt:
                # The last letters of the prompt and the first of the reply make one token together; in
                # synthesis the prompt's tokens are fixed before the reply is written.
                whole = prompt + self._tokenizer(reply, add_special_tokens=False)["input_ids"]
            if whole[-1] not in self._ends:
                whole = [*whole, self._tokenizer.eos_token_id]
            found.append((whole, len(prompt)))
        return flat([each for each in found if len(each[0]) <= max_tokens], len(found))

    def _ids(self, texts: list[str]) -> list[list[int]]:
        # As `synth.tokens` does: a chat template writes the special tokens itself.
        encoded = self._tokenizer(texts, add_special_tokens=not self._chat, return_attention_mask=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def _split(self, turns: Turns, place: str) -> tuple[str, str]:
        """Return a chat up to the reply, and the reply with the end of its turn."""
        try:
            prompt, whole = self._written(turns[:-1], True), self._written(turns, False)
        except (TemplateError, ValueError, TypeError) as error:
            raise DataError(f"{place}: the chat template of {self._model} refuses it ({error})") from error
        reply = whole[len(prompt) : len(whole) - len(self._tail)]
        kept = whole.startswith(prompt) and whole.endswith(self._tail)
        if not kept or turns[-1]["content"].strip() not in reply:
            raise DataError(
                f"{place}: the chat template of {self._model} does not write the turns as they are, so the "
                "reply cannot be told from the prompt; set render=raw, or take a model with another template"
            )
        return prompt, reply + self._tail.rstrip()

    def _after_a_reply(self) -> str:
        """Return what the chat template writes after a reply."""
        if not self._tokenizer.chat_template:
            raise ModelError(f"model {self._model}: has no chat template; set render=raw")
        turns = [{"role": "user", "content": "A question."}, {"role": "assistant", "content": _PROBE}]
        try:
            _, found, after = self._written(turns, False).partition(_PROBE)
        except TemplateError as error:
            raise ModelError(f"model {self._model}: its chat template is broken ({error})") from error
        if not found:
            raise ModelError(f"model {self._model}: its chat template does not write replies; set render=raw")
        return after

    def _written(self, turns: Turns, asking: bool) -> str:
        text: str = self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=asking)
        return text


def _as_it_is(turns: Turns, place: str) -> tuple[str, str]:
    if [turn["role"] for turn in turns] != ["user", "assistant"]:
        raise DataError(f"{place}: render=raw takes one prompt and one reply, and this is a longer chat")
    return turns[0]["content"], turns[1]["content"]


def flat(found: Sequence[tuple[list[int], int]], rows: int) -> TokenisedLessons:
    """Return lessons, given as token ids and length of the prompt, of a number of rows, in flat arrays."""
    lengths = np.array([len(ids) for ids, _ in found], dtype=np.int64)
    tokens = [np.asarray(ids, dtype=np.int32) for ids, _ in found]
    return TokenisedLessons(
        tokens=np.concatenate(tokens) if tokens else np.empty(0, np.int32),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        prompts=np.array([prompt for _, prompt in found], dtype=np.int64),
        left_out=rows - len(found),
    )


def joined(parts: Sequence[TokenisedLessons]) -> TokenisedLessons:
    """Return the lessons of several parts as one, in order."""
    lengths = np.concatenate([part.lengths() for part in parts])
    return TokenisedLessons(
        tokens=np.concatenate([part.tokens for part in parts]),
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        prompts=np.concatenate([part.prompts for part in parts]),
        left_out=sum(part.left_out for part in parts),
    )
