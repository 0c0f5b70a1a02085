"""What every benchmark leaves: a JSON of claims, each a value beside its goal, and the machine it ran on."""

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Claim:
    """A measured value and its goal."""

    value: float
    goal: float
    better: Literal["higher", "lower"] = "higher"

    @property
    def met(self) -> bool:
        """Whether the value reaches the goal."""
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal


def machine() -> str:
    """Name the machine by its cores, processor and GPUs."""
    return ", ".join([f"{os.cpu_count()} cores", _processor(), *_gpus()])


def write_claims(
    benchmark: str, claims: Mapping[str, Claim], details: Mapping[str, Any], path: Path | None
) -> None:
    """Print the claims as a table and, with a path, write them as JSON."""
    width = max(map(len, claims), default=0)
    for name, claim in claims.items():
        sign = "≥" if claim.better == "higher" else "≤"
        verdict = "met" if claim.met else "MISSED"
        print(f"{name:<{width}}  {claim.value:10.3f}  goal {sign} {claim.goal:g}  {verdict}")
    if path is not None:
        content = {
            "benchmark": benchmark,
            "machine": machine(),
            "claims": {name: asdict(claim) for name, claim in claims.items()},
            "details": details,
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0].partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
