"""No teacher at all: for methods that write nothing themselves, such as ReGen."""

from typing import Literal, NoReturn

from synth.method import Tokenizer
from synth.prompting import as_text
from synth.records import Prompt, Sampling
from synth.teacher import Capacity, Engine, TeacherRefuses, TeacherSettings
from synth.teachers.scripted import Words

REVISION = "none"
"""There are no weights that could change."""
SEATS = 64
"""Items worked side by side: none waits for a reply."""


class NoneSettings(TeacherSettings):
    """`teacher: {backend: none}`, where the method asks no teacher (`MethodSettings.asks_teacher`)."""

    backend: Literal["none"] = "none"
    model: Literal["none"] = "none"

    def check(self) -> str:
        return REVISION

    def tokenizer(self) -> Tokenizer:
        return Words()

    async def engine(self) -> Engine:
        return NoEngine()


class NoEngine:
    """Loads at once, holds nothing, and answers nobody."""

    revision = REVISION

    def capacity(self) -> Capacity:
        return Capacity(in_flight=SEATS, seats=SEATS)

    def busy(self) -> tuple[int, int]:
        return 0, 0

    def prompt_tokens(self, prompt: Prompt) -> int:
        return len(as_text(prompt).split())

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> NoReturn:
        """Raise TeacherRefuses: a wrong recipe must not run on until every item has failed."""
        raise TeacherRefuses(
            "teacher.backend: none answers no call, and one was asked for; name a backend that writes, such "
            "as transformers or vllm"
        )

    async def close(self) -> None:
        """Do nothing: there is nothing to free."""
