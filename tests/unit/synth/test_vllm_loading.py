"""How a vLLM engine is shaped, without vLLM: arguments, identity, turns on a shared GPU, counts of steps."""

import multiprocessing
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.errors import ModelError
from synth.teachers.vllm_backend import VllmSettings
from synth.teachers.vllm_loading import arguments, locked
from synth.teachers.vllm_stats import EngineStats, StepCounter


def settings(**given: Any) -> VllmSettings:
    return VllmSettings(model="m", **given)


def test_on_a_gpu_vllm_chooses_what_the_recipe_leaves_open_and_on_cpu_we_do() -> None:
    names = ("max_num_seqs", "max_num_batched_tokens", "enforce_eager")
    gpu, cpu = (arguments(settings(), Path("m"), cpu) for cpu in (False, True))
    assert [gpu[name] for name in names] == [None, None, False]
    assert [cpu[name] for name in names] == [64, 8192, True]
    given = arguments(settings(max_num_seqs=7, engine_args={"block_size": 32}), Path("m"), cpu=False)
    assert (given["max_num_seqs"], given["block_size"]) == (7, 32)


def test_replicas_draw_from_seeds_of_their_own() -> None:
    assert len({arguments(settings(), Path("m"), cpu=False)["seed"] for _ in range(8)}) == 8
    assert arguments(settings(engine_args={"seed": 3}), Path("m"), cpu=False)["seed"] == 3


def test_replicas_on_one_gpu_share_its_memory() -> None:
    assert "gpu_memory_utilization" not in arguments(settings(num_gpus=1), Path("m"), cpu=False)
    shared = settings(num_gpus=0.25)
    assert arguments(shared, Path("m"), cpu=False)["gpu_memory_utilization"] == pytest.approx(0.225)
    given = settings(num_gpus=0.25, engine_args={"gpu_memory_utilization": 0.2})
    assert arguments(given, Path("m"), cpu=False)["gpu_memory_utilization"] == 0.2


def test_a_model_over_several_gpus_is_run_by_child_processes_unless_in_a_placement_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    wide = settings(tensor_parallel=2, pipeline_parallel=3)
    assert (wide.gpus(), settings().gpus()) == (6.0, 1.0)
    made = arguments(wide, Path("m"), cpu=False)
    assert (made["tensor_parallel_size"], made["pipeline_parallel_size"]) == (2, 3)
    assert made["distributed_executor_backend"] == "mp"
    assert arguments(settings(), Path("m"), cpu=False)["distributed_executor_backend"] is None
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray.util, "get_current_placement_group", lambda: "a group")
    assert arguments(wide, Path("m"), cpu=False)["distributed_executor_backend"] == "ray"


def test_the_cpu_build_runs_no_pipeline() -> None:
    with pytest.raises(ModelError, match=r"teacher\.pipeline_parallel"):
        arguments(settings(pipeline_parallel=2), Path("m"), cpu=True)


def test_what_changes_only_the_speed_is_no_part_of_the_teachers_identity() -> None:
    fast = {
        "gpu_memory_utilization": 0.8,
        "block_size": 32,
        "load_format": "runai_streamer",
        "numa_bind": True,
    }
    other = settings(max_num_seqs=9, tensor_parallel=2, enforce_eager=True, num_gpus=0.5, engine_args=fast)
    assert other.identity() == settings().identity()
    for name, value in {"quantization": "fp8", "kv_cache_dtype": "fp8", "load_format": "dummy"}.items():
        assert settings(engine_args={name: value}).identity() != settings().identity()


def _hold(name: str, folder: str) -> None:
    tempfile.tempdir = folder
    with locked(name):
        Path(folder, "held").touch()
        time.sleep(0.3)
        Path(folder, "held").unlink()


def test_two_processes_do_not_load_on_one_gpu_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    other = multiprocessing.get_context("fork").Process(target=_hold, args=("gpu-0/1", str(tmp_path)))
    other.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with locked("gpu-2"):
        assert (tmp_path / "held").exists(), "another GPU is no matter"
    with locked("gpu-0/1"):
        assert not (tmp_path / "held").exists()
    other.join(5)
    assert other.exitcode == 0


def test_the_steps_of_an_engine_are_counted() -> None:
    stats = EngineStats()
    counter = StepCounter(stats)
    for running, waiting in ((8, 3), (6, 0), (8, 1)):
        cache = SimpleNamespace(queries=10, hits=4)
        counter.record(
            SimpleNamespace(num_running_reqs=running, num_waiting_reqs=waiting, prefix_cache_stats=cache),
            None,
        )
    counter.record(None, None)
    assert stats == EngineStats(3, 22, 2, 16, 30, 12, last_running=8)
