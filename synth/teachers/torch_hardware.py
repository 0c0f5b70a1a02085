"""What the transformers teacher asks of the hardware: threads, precision, memory."""

import os
from typing import Any


def threads(num_cpus: float) -> int:
    """Return how many threads torch is to use in a replica that reserves so many CPUs."""
    # Ray gives an actor one OpenMP thread per CPU it reserves; a lone replica on a node may have them all.
    return int(num_cpus) if num_cpus > 1 else len(os.sched_getaffinity(0))


def best_dtype(name: str, gpu: bool) -> Any:
    """Return a torch dtype by name; `auto` is bfloat16 where the hardware computes in it, else float32."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    fast = torch.cuda.is_bf16_supported() if gpu else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that a batch did not fit."""
    import torch

    # On CPU torch has no class of its own for it.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def free_memory() -> None:
    """Give back what torch keeps on the GPU for later."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
