import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from cluster import gauge
from cluster.gauge import Gauge


class NvmlError(Exception):
    """What the library raises."""


class Nvml(ModuleType):
    """A driver with three GPUs, named by number or UUID."""

    NVMLError = NvmlError
    busy = {"0": 90, "1": 50, "2": 10}

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.asked: list[str] = []

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return len(self.busy)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> str:
        return str(number)

    def nvmlDeviceGetHandleByUUID(self, name: str) -> str:
        return name.removeprefix("GPU-")

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        self.asked.append(handle)
        if handle not in self.busy:
            raise NvmlError
        return SimpleNamespace(gpu=self.busy[handle])


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    return nvml


@pytest.mark.parametrize(
    ("devices", "share"), [("0", 0.9), ("0,1", 0.7), ("GPU-2", 0.1), ("", None), ("MIG-x", None)]
)
def test_the_gpus_that_the_process_was_given_are_read(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, devices: str, share: float | None
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    assert Gauge().share() == (None if share is None else pytest.approx(share))


def test_where_none_is_named_only_an_engine_that_spans_gpus_makes_them_count(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Gauge().share() is None
    monkeypatch.setitem(sys.modules, "vllm", ModuleType("vllm"))
    assert Gauge().share() == pytest.approx(0.5)


def test_the_driver_is_asked_every_two_seconds_at_most(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(gauge, "time", clock)
    reader = Gauge()
    for tenth in range(41):
        clock.now = tenth / 10
        assert reader.share() == 0.5
    assert len(nvml.asked) == 3


def test_without_the_library_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert Gauge().share() is None
