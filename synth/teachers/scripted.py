"""A teacher without a model: deterministic, instant, misbehaving on demand. For tests and rehearsals."""

import asyncio
import os
import random
import re
import time
from typing import Literal

from pydantic import Field

from cluster.settings import digest
from synth.method import Tokenizer
from synth.prompting import as_text
from synth.records import Prompt, Reply, Sampling, prompt_hash
from synth.teacher import Engine, TeacherSettings

REFUSALS = ("I'm sorry, but I can't help with that.", "As an AI language model, I cannot write this text.")


class ScriptedSettings(TeacherSettings):
    """A rehearsal teacher. Rates are shares of prompts, decided by prompt and item: the same in every run."""

    backend: Literal["scripted"] = "scripted"
    model: str = "scripted"
    words: int = Field(24, ge=1)
    """Words of a reply."""
    seconds: float = Field(0, ge=0)
    """Time a reply takes."""
    refuse: float = Field(0, ge=0, le=1)
    """Share of prompts that are refused."""
    empty: float = Field(0, ge=0, le=1)
    """Share of prompts that get an empty reply."""
    run_on: float = Field(0, ge=0, le=1)
    """Share of prompts whose reply goes on into another example."""
    cut_off: float = Field(0, ge=0, le=1)
    """Share of prompts whose reply is cut off by the length limit."""
    repeat: float = Field(0, ge=0, le=1)
    """Share of prompts that get one and the same reply."""
    raise_on: str | None = None
    """A prompt that contains this text raises an error."""
    stall_on: str | None = None
    """A prompt that contains this text is never answered."""
    hang_on: str | None = None
    """A prompt that contains this text freezes the replica's process, heartbeat and all."""
    die_on: str | None = None
    """A prompt that contains this text kills the replica's process."""

    def identity(self) -> dict[str, object]:
        script = self.model_dump(include={"words", "refuse", "empty", "run_on", "cut_off", "repeat"})
        return super().identity() | script

    def check(self) -> str:
        return digest(self.identity())[:12]

    def tokenizer(self) -> Tokenizer:
        return Words()

    async def engine(self) -> Engine:
        return ScriptedEngine(self)


class Words:
    """A tokenizer whose tokens are words."""

    def count(self, text: str) -> int:
        return len(text.split())

    def cut(self, text: str, tokens: int) -> str:
        ends = [match.end() for match in re.finditer(r"\S+", text)]
        return text if len(ends) <= tokens else text[: ends[tokens - 1]]


class ScriptedEngine:
    """Answers with words drawn from the prompt's last block, chosen by a hash of prompt and seed."""

    def __init__(self, settings: ScriptedSettings) -> None:
        self.settings = settings
        self.revision = settings.check()

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        text = as_text(prompt)
        await self._misbehave(text)
        await asyncio.sleep(self.settings.seconds)
        rng = random.Random(f"{prompt_hash(prompt)}-{seed}")
        reply = self._write(text, _header(text, sampling), rng)
        cut = rng.random() < self.settings.cut_off
        tokens = len(reply.split())
        return Reply(reply, "length" if cut else "stop", len(text.split()), tokens)

    async def close(self) -> None:
        return None

    async def _misbehave(self, text: str) -> None:
        if self.settings.raise_on is not None and self.settings.raise_on in text:
            raise RuntimeError("the script says: fail")
        if self.settings.stall_on is not None and self.settings.stall_on in text:
            await asyncio.Event().wait()
        if self.settings.hang_on is not None and self.settings.hang_on in text:
            time.sleep(3600)
        if self.settings.die_on is not None and self.settings.die_on in text:
            os._exit(1)

    def _write(self, text: str, header: str, rng: random.Random) -> str:
        script = self.settings
        kind = rng.random()
        if (kind := kind - script.refuse) < 0:
            return rng.choice(REFUSALS)
        if (kind := kind - script.empty) < 0:
            return ""
        if (kind := kind - script.repeat) < 0:
            return "The very same sentence comes back once more."
        tail = text.rstrip().splitlines()[-6:]
        # A word with a colon could be read as a header.
        words = [word for line in tail for word in line.split() if ":" not in word] or ["text"]
        body = " ".join(rng.choice(words) for _ in range(script.words)) + "."
        if kind - script.run_on < 0:
            return f"{body}\n\n{header}: and here begins another one."
        return body


def _header(text: str, sampling: Sampling) -> str:
    """Return the header under which a reply runs on: the cue of a raw prompt, or the last stop string's."""
    cues = [line.strip() for line in (*sampling.stop, text.rstrip().rpartition("\n")[2])]
    return next((cue[:-1] for cue in reversed(cues) if cue.endswith(":")), "Text")
