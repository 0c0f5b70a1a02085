"""How a vLLM engine is shaped and loaded: its arguments, its executor, and turns on a shared GPU."""

import fcntl
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError

if TYPE_CHECKING:
    from synth.teachers.vllm_backend import VllmSettings

CPU_SEQS = 64
"""Sequences decoded together by the CPU build; more only share the same cores."""
CPU_BATCHED_TOKENS = 8192
GPU_MEMORY = 0.9
"""Share of a GPU that vLLM may fill, as it does by itself; replicas on one GPU share this."""
_DISTRIBUTED_ONLY = {"tensor_parallel_size", "pipeline_parallel_size", "distributed_executor_backend"}
_PERFORMANCE = _DISTRIBUTED_ONLY | {
    "aggregate_engine_logging",
    "async_scheduling",
    "attention_backend",
    "attention_config",
    "block_size",
    "collect_detailed_traces",
    "compilation_config",
    "cpu_offload_gb",
    "cpu_offload_params",
    "cudagraph_capture_sizes",
    "cudagraph_metrics",
    "data_parallel_size",
    "disable_cascade_attn",
    "disable_custom_all_reduce",
    "disable_log_stats",
    "distributed_timeout_seconds",
    "download_dir",
    "enable_chunked_prefill",
    "enable_log_requests",
    "enable_prefix_caching",
    "enforce_eager",
    "gpu_memory_utilization",
    "kernel_config",
    "kv_cache_memory_bytes",
    "kv_cache_metrics",
    "kv_offloading_backend",
    "kv_offloading_size",
    "log_level",
    "long_prefill_token_threshold",
    "max_cudagraph_capture_size",
    "max_num_batched_tokens",
    "max_num_scheduled_tokens",
    "max_num_seqs",
    "max_parallel_loading_workers",
    "model_loader_extra_config",
    "num_gpu_blocks_override",
    "numa_bind",
    "offload_backend",
    "offload_group_size",
    "offload_num_in_group",
    "offload_params",
    "offload_prefetch_step",
    "optimization_level",
    "performance_mode",
    "prefix_caching_hash_algo",
    "profiler_config",
    "renderer_num_workers",
    "safetensors_load_strategy",
    "scheduler_cls",
    "scheduling_policy",
    "shutdown_timeout",
    "stream_interval",
    "use_tqdm_on_load",
}
"""Engine arguments that change how fast rows come, and not what is in them."""


def content_arguments(engine_args: dict[str, Any]) -> dict[str, Any]:
    """Return the engine arguments on which a row's content depends."""
    return {
        name: value
        for name, value in engine_args.items()
        if name not in _PERFORMANCE and (name != "load_format" or value == "dummy")
    }


def arguments(settings: "VllmSettings", folder: Path, cpu: bool) -> dict[str, Any]:
    """Return what AsyncEngineArgs is called with; what is None vLLM chooses by the hardware it finds."""
    if cpu and settings.pipeline_parallel > 1:
        # It loads, and dies of its first request (vLLM 0.32).
        raise ModelError("teacher.pipeline_parallel: vLLM's CPU build runs no pipelines; remove it")
    given: dict[str, Any] = {
        "model": str(folder),
        "dtype": settings.dtype,
        "max_num_seqs": settings.max_num_seqs or (CPU_SEQS if cpu else None),
        "max_num_batched_tokens": settings.max_num_batched_tokens or (CPU_BATCHED_TOKENS if cpu else None),
        "max_model_len": settings.max_model_len,
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "distributed_executor_backend": _executor(settings),
        "enforce_eager": settings.enforce_eager or cpu,
        "enable_prefix_caching": True,
        # With vLLM's fixed default all replicas would draw the same texts for the same prompts.
        "seed": random.SystemRandom().getrandbits(31),
        "disable_log_stats": True,
        # Sampling is the method's business: a model's own generation_config would change top_k silently.
        "generation_config": "vllm",
    }
    if settings.shares_gpu() and not cpu:
        given["gpu_memory_utilization"] = round(GPU_MEMORY * settings.gpu_share(), 4)
    return given | settings.engine_args


@contextmanager
def turn(settings: "VllmSettings") -> Iterator[None]:
    """Load alone on a shared GPU: vLLM measures free memory as it loads, which a second load would falsify.

    Blocks until it is this replica's turn; a replica with a GPU of its own goes on at once.
    """
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    with locked(f"gpu-{gpu}") if settings.shares_gpu() and gpu else nullcontext():
        yield


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock that only one process of this user on this machine can hold at a time."""
    safe = "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)
    path = Path(tempfile.gettempdir()) / f"nightshift-{os.getuid()}-{safe}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            # Not by closing alone: an engine process forked meanwhile has the file open too.
            fcntl.flock(file, fcntl.LOCK_UN)


def _executor(settings: "VllmSettings") -> str | None:
    """Workers over several nodes are Ray actors in the replica's placement group; else child processes."""
    if settings.tensor_parallel * settings.pipeline_parallel == 1:
        return None
    import ray

    grouped = ray.is_initialized() and ray.util.get_current_placement_group() is not None
    return "ray" if grouped else "mp"
