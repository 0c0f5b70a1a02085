"""The teacher contract: settings that build an engine, and what an engine does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from pydantic import Field

from cluster.settings import Settings
from synth.method import Tokenizer
from synth.records import Prompt, Reply, Sampling


class EngineDied(Exception):
    """The engine cannot answer any more; its replica must be replaced."""


class TeacherRefuses(Exception):
    """The teacher will refuse every call with these settings: a wrong key, model or address. The run ends."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a loaded engine can take at once."""

    in_flight: int
    """Items a replica should have aboard so that the engine is never short of requests."""
    seats: int
    """Requests it works on together."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What it chose by itself, as JSON has it."""


class Engine(Protocol):
    """One loaded copy of a teacher. Many calls run at once; each returns when its own reply is complete."""

    @property
    def revision(self) -> str:
        """Hash or commit of the weights, or of the script."""

    def capacity(self) -> Capacity:
        """Return how many requests fit in; it does not change while the engine lives."""

    def busy(self) -> tuple[int, int]:
        """Return the requests that run and those that wait, as the engine itself counts them."""

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Return how many tokens a prompt has for the engine: exactly, or a little more than that."""

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        """Return the reply to a prompt; seed makes draws differ where the engine can use it."""

    async def close(self) -> None:
        """Free what the engine holds."""


class TeacherSettings(Settings):
    """Base of every backend's settings; a subclass gives `backend` a Literal type."""

    abilities: ClassVar[frozenset[str]] = frozenset()
    """What not every backend can do and some methods need (`MethodSettings.needs`)."""

    backend: str
    """What runs the teacher."""
    model: str
    """Hub id, folder, or `package:<import name>/<path>`."""
    replicas: int | None = Field(None, ge=1)
    """Loaded copies; by default one per GPU, or one per node where there is no GPU."""
    in_flight: int | None = Field(None, ge=1)
    """Items a replica works at once; by default as many as keep its loaded engine full."""
    num_cpus: float = Field(1, ge=0)
    """CPUs a replica reserves."""
    num_gpus: float | None = Field(None, ge=0)
    """GPUs a replica reserves; by default as many as its backend uses, and none where there are none."""
    item_timeout: float = Field(600, gt=0)
    """Seconds after which an item is given up and tried again, up to three times in all."""
    hang_timeout: float = Field(120, gt=0)
    """Seconds without a sign of life after which a replica is replaced."""

    def identity(self) -> dict[str, object]:
        """What of the teacher determines a row's content; the number of replicas does not."""
        return {"backend": self.backend, "model": self.model}

    def gpus(self) -> float:
        """Return how many GPUs a replica uses where there are any."""
        return 0.0

    def resolve(self) -> "TeacherSettings":
        """Return the settings of the backend that will really run."""
        return self

    def check(self) -> str:
        """Find the model without loading it and return its revision; ModelError when there is none."""
        raise NotImplementedError

    def tokenizer(self) -> Tokenizer:
        """Return the teacher's tokenizer."""
        raise NotImplementedError

    async def engine(self) -> Engine:
        """Load the teacher in this process."""
        raise NotImplementedError
