"""How busy the GPUs are that a process works on."""

import math
import os
import sys
import time
from typing import Any

READ_SECONDS = 2.0
"""A gauge is read at most so often: a driver may take milliseconds to answer."""


class Gauge:
    """Tells the utilisation of the GPUs that this process was given; None where there are none."""

    def __init__(self) -> None:
        self._handles: list[Any] | None = None
        self._read = -math.inf
        self._share: float | None = None

    def share(self) -> float | None:
        """Return the share of the last moments in which the GPUs were busy, 0 to 1, on average over them."""
        now = time.monotonic()
        if now - self._read >= READ_SECONDS:
            self._read = now
            if self._handles is None:
                self._handles = _handles()
            self._share = _utilisation(self._handles) if self._handles else None
        return self._share


def _handles() -> list[Any]:
    """Return NVML's handles of the GPUs that this process may use."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Ray names the GPUs that an actor reserves. Where it names none, only an engine whose workers hold GPUs
    # of this node beside it, as vLLM's do over a placement group, is the one that keeps them busy.
    if named == "" or (named is None and "vllm" not in sys.modules):
        return []
    try:
        import pynvml
    except ModuleNotFoundError:
        return []
    try:
        pynvml.nvmlInit()
        if named is None:
            return [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [_handle(pynvml, name.strip()) for name in named.split(",")]
    except pynvml.NVMLError:
        return []


def _handle(nvml: Any, name: str) -> Any:
    """Return the handle of a device named by its number or its UUID."""
    return (
        nvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else nvml.nvmlDeviceGetHandleByUUID(name)
    )


def _utilisation(handles: list[Any]) -> float | None:
    import pynvml

    try:
        busy = [pynvml.nvmlDeviceGetUtilizationRates(handle).gpu for handle in handles]
    except pynvml.NVMLError:
        return None  # A slice of a GPU (MIG) tells no utilisation.
    return float(sum(busy) / len(busy) / 100)
