"""The transformers backend with the real SmolLM2, held to what every engine is; and how `auto` chooses."""

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from synth.records import Reply, Sampling
from synth.teachers.transformers_backend import TransformersSettings
from synth.teachers.vllm_backend import VllmSettings
from tests.engine_checks import MODEL, check_choices, check_contract, check_free_json

LENGTH = 512

# One engine is loaded once, and belongs to the loop that its requests are made in.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine() -> AsyncIterator[Any]:
    settings = TransformersSettings(model=MODEL, batch_size=12, dtype="float32", max_model_len=LENGTH)
    loaded = await settings.engine()
    yield loaded
    await loaded.close()


@pytest.mark.timeout(240)
async def test_transformers_keeps_the_engine_contract(engine: Any) -> None:
    await check_contract(engine, LENGTH)


@pytest.mark.timeout(240)
async def test_transformers_decodes_choices_and_leaves_json_to_the_parser(engine: Any) -> None:
    await check_choices(engine)
    await check_free_json(engine)


async def test_transformers_halves_a_batch_that_does_not_fit_into_memory(
    engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    generate, sizes = engine._model.generate, list[int]()

    def tight(**arguments: Any) -> Any:
        rows, width = arguments["input_ids"].shape
        sizes.append(rows)
        if rows > 2 or width > 100:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**arguments)

    monkeypatch.setattr(engine._model, "generate", tight)
    # It stays halved: those that come after it are to have the size they expect.
    monkeypatch.setattr(engine, "_batch_size", 5)
    short = Sampling(0, 1, 2)
    replies = await asyncio.gather(*(engine.generate(f"Count to {n}:", short, n) for n in range(5)))
    assert [reply.reply_tokens for reply in replies] == [2] * 5
    assert sizes == [5, 3, 2, 2, 1]
    results = await asyncio.gather(
        *(engine.generate(prompt, short, 1) for prompt in ("word " * 150, "One, two,", "Three, four,")),
        return_exceptions=True,
    )
    assert isinstance(results[0], torch.OutOfMemoryError), "one that does not fit alone is given up"
    assert [type(result) for result in results[1:]] == [Reply, Reply]
    assert engine.busy() == (0, 0)


@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
async def test_auto_takes_vllm_where_it_is_installed() -> None:
    from synth.teachers.auto import AutoSettings

    assert AutoSettings(model=MODEL, in_flight=5).resolve() == VllmSettings(model=MODEL, in_flight=5)
