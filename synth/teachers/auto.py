"""The default teacher: vLLM where it is installed, transformers elsewhere."""

import importlib.util
from typing import Literal

from synth.method import Tokenizer
from synth.teacher import Engine, TeacherSettings
from synth.teachers.transformers_backend import TransformersSettings
from synth.teachers.vllm_backend import VllmSettings


class AutoSettings(TeacherSettings):
    """Chooses the backend by what is installed; name `vllm` or `transformers` to use its own settings."""

    backend: Literal["auto"] = "auto"

    def resolve(self) -> TeacherSettings:
        # A default of this class says nothing: the backend has its own.
        given = self.model_dump(exclude={"backend"}, exclude_defaults=True)
        vllm = importlib.util.find_spec("vllm") is not None
        return VllmSettings(**given) if vllm else TransformersSettings(**given)

    def check(self) -> str:
        return self.resolve().check()

    def tokenizer(self) -> Tokenizer:
        return self.resolve().tokenizer()

    async def engine(self) -> Engine:
        return await self.resolve().engine()
