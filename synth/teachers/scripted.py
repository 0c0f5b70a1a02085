"""A teacher without a model: deterministic, instant, misbehaving on demand. For tests and rehearsals."""

import asyncio
import os
import random
import re
import time
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Literal

from pydantic import Field

from cluster.settings import digest
from synth.method import Tokenizer
from synth.prompting import as_text
from synth.records import Prompt, Reply, Sampling, Structure
from synth.teacher import Capacity, Engine, TeacherSettings
from synth.teachers.scripted_orders import Orders
from synth.teachers.scripted_structures import Writer

SEATS = 64
"""What an engine without a limit says of itself."""
LAST_LINES = 6
"""A reply is made of words of so many last lines of its prompt."""
REFUSALS = ("I'm sorry, but I can't help with that.", "As an AI language model, I cannot write this text.")
REPEATED = "The very same sentence comes back once more."


class ScriptedSettings(TeacherSettings):
    """A rehearsal teacher. Rates are shares of prompts, decided by prompt and item: the same in every run."""

    backend: Literal["scripted"] = "scripted"
    model: str = "scripted"
    words: int = Field(24, ge=1)
    """Words of a reply."""
    seconds: float = Field(0, ge=0)
    """Time a reply takes."""
    seats: int | None = Field(None, ge=1)
    """Requests worked on together; more than these wait their turn. None: as many as come."""
    needs_gpus: float = Field(0, ge=0)
    """GPUs a replica uses where there are any, to rehearse how replicas are placed."""
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
    mangle: float = Field(0, ge=0, le=1)
    """Share of prompts whose structured reply is prose, fenced, cut, or JSON as the careless write it."""
    raise_on: str | None = None
    """A prompt that contains this text raises an error."""
    stall_on: str | None = None
    """A prompt that contains this text is never answered."""
    hang_on: str | None = None
    """A prompt that contains this text freezes the replica's process, heartbeat and all."""
    die_on: str | None = None
    """A prompt that contains this text kills the replica's process."""
    orders: Path | None = None
    """Folder, seen by all nodes, where a file orders a fault from whichever engine finds it first; its name
    is `<kind>-<anything>`, with the kinds that `synth.teachers.scripted_orders` lists."""

    def identity(self) -> dict[str, object]:
        script = self.model_dump(include={"words", "refuse", "empty", "run_on", "cut_off", "repeat"})
        # Runs from before there was this setting stay theirs.
        mangled = {"mangle": self.mangle} if self.mangle else {}
        return super().identity() | script | mangled

    def check(self) -> str:
        return digest(self.identity())[:12]

    def gpus(self) -> float:
        return self.needs_gpus

    def tokenizer(self) -> Tokenizer:
        return Words()

    async def engine(self) -> Engine:
        engine = ScriptedEngine(self)
        engine.watch()
        return engine


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
        self._rng = random.Random()
        names = ("refuse", "empty", "repeat", "run_on", "mangle")
        self._shares = [(name, float(getattr(settings, name))) for name in names]
        self._seats = asyncio.Semaphore(settings.seats) if settings.seats and settings.seconds else None
        self._inside = 0
        self._orders = Orders(settings.orders) if settings.orders else None
        self._watch: asyncio.Task[None] | None = None
        self._poisoned = any((settings.raise_on, settings.stall_on, settings.hang_on, settings.die_on))

    def watch(self) -> None:
        """Look for orders in the background; without a folder there are none."""
        if self._orders is not None:
            self._watch = asyncio.create_task(self._orders.watch())

    def capacity(self) -> Capacity:
        seats = self.settings.seats or SEATS
        return Capacity(in_flight=seats * 3 // 2, seats=seats, facts={})

    def busy(self) -> tuple[int, int]:
        running = min(self._inside, self.settings.seats or self._inside)
        return running, self._inside - running

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(as_text(prompt).split())

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        text = as_text(prompt)
        self._inside += 1
        try:
            begun = await self._orders.begin() if self._orders else 0
            if self._poisoned:
                await self._misbehave(text)
            if self.settings.seconds:
                await self._take_time()
            if self._orders:
                await self._orders.end(begun)
        finally:
            self._inside -= 1
        return self._reply(text, sampling, seed)

    async def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()

    async def _take_time(self) -> None:
        if self._seats is None:
            await asyncio.sleep(self.settings.seconds)
        else:
            async with self._seats:
                await asyncio.sleep(self.settings.seconds)

    async def _misbehave(self, text: str) -> None:
        if self.settings.raise_on and self.settings.raise_on in text:
            raise RuntimeError("the script says: fail")
        if self.settings.stall_on and self.settings.stall_on in text:
            await asyncio.Event().wait()
        if self.settings.hang_on and self.settings.hang_on in text:
            time.sleep(3600)
        if self.settings.die_on and self.settings.die_on in text:
            os._exit(1)

    def _reply(self, text: str, sampling: Sampling, seed: int) -> Reply:
        number = blake2b(f"{seed} {text}".encode(), digest_size=8).digest()
        # One generator, seeded anew for each reply: making one costs more than all the rest.
        self._rng.seed(int.from_bytes(number, "big"))
        if sampling.structure is not None:
            return self._structured(text, sampling.structure)
        reply = self._write(text, sampling)
        cut = self._rng.random() < self.settings.cut_off
        return Reply(reply, "length" if cut else "stop", len(text.split()), len(reply.split()))

    def _misdeed(self) -> str | None:
        """Draw what is wrong with a reply; of a free one there is nothing to mangle."""
        left = self._rng.random()
        for name, share in self._shares:
            if (left := left - share) < 0:
                return name
        return None

    def _write(self, text: str, sampling: Sampling) -> str:
        rng, misdeed = self._rng, self._misdeed()
        if misdeed == "refuse":
            return rng.choice(REFUSALS)
        if misdeed == "empty":
            return ""
        if misdeed == "repeat":
            return REPEATED
        body = " ".join(rng.choices(_words(text), k=self.settings.words)) + "."
        if misdeed == "run_on":
            return f"{body}\n\n{_header(text, sampling)}: and here begins another one."
        return body

    def _structured(self, text: str, structure: Structure) -> Reply:
        """Return a reply that has a form; what goes wrong comes in its share, as in other replies."""
        cut = self._rng.random() < self.settings.cut_off
        reply = self._fill(text, structure)
        if cut:
            reply = reply[: len(reply) // 2]
        return Reply(reply, "length" if cut else "stop", len(text.split()), len(reply.split()))

    def _fill(self, text: str, structure: Structure) -> str:
        words, rng, misdeed = self.settings.words, self._rng, self._misdeed()
        if misdeed == "refuse":
            return rng.choice(REFUSALS)
        if misdeed == "empty":
            return ""
        if misdeed == "repeat":
            rng.seed(0)
            return Writer(rng, REPEATED.split(), words).reply(structure)
        writer = Writer(rng, _words(text), words)
        reply = writer.reply(structure)
        if misdeed == "run_on":
            return f"{reply}\n\n{writer.reply(structure)}"
        return writer.mangled(reply) if misdeed == "mangle" else reply


@lru_cache(maxsize=64)
def _words(text: str) -> list[str]:
    """Return the words that a reply to a prompt is made of; the list is shared."""
    tail = text.rstrip().rsplit("\n", LAST_LINES)[-LAST_LINES:]
    # A word with a colon could be read as a header.
    return [word for line in tail for word in line.split() if ":" not in word] or ["text"]


def _header(text: str, sampling: Sampling) -> str:
    """Return the header under which a reply runs on: the cue of a raw prompt, or the last stop string's."""
    cues = [line.strip() for line in (*sampling.stop, text.rstrip().rpartition("\n")[2])]
    return next((cue[:-1] for cue in reversed(cues) if cue.endswith(":")), "Text")
