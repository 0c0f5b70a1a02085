"""Self-debiasing with a cache and in batches gives what the formula says, worked out one by one."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers.generation import TemperatureLogitsWarper, TopPLogitsWarper

from synth.records import Against
from synth.teachers.self_debiasing import SelfDebiasing

WORDS = 40
STEPS = 7
PAPER = Against((), 200, 0.01)
PROMPTS = [[3, 9, 4, 20, 31], [5], [8, 2, 30]]
COUNTERS = [[[3, 9, 7], [11, 12, 13, 14, 15, 16]], [[6, 6, 6, 1]], []]
"""Of any number and any length, also longer than the prompt; the last row has none."""


def tiny(kind: str) -> Any:
    torch.manual_seed(7)
    sizes = {"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
    if kind == "gpt2":  # Positions are learned: one that is off by one shows.
        config = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.5, **sizes)
        return GPT2LMHeadModel(config).eval()
    wide = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.5}
    return LlamaForCausalLM(LlamaConfig(**wide, **heads, **sizes)).eval()


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny(request.param)


def following(model: Any, tokens: Sequence[int]) -> Any:
    """Probabilities of the next token: all tokens read at once, with no padding and no cache."""
    with torch.inference_mode():
        return (
            model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0, -1].double().softmax(-1)
        )


def by_formula(model: Any, prompt: Sequence[int], counters: Sequence[Sequence[int]], reply: list[int]) -> Any:
    p = following(model, [*prompt, *reply])
    q = torch.zeros_like(p)
    for counter in counters:
        q = torch.maximum(q, following(model, [*counter, *reply]))
    p = p * torch.exp(-PAPER.decay * torch.clamp(q - p, min=0)).clamp(min=PAPER.floor)
    return p / p.sum()


def generated(model: Any, rows: Sequence[int], **arguments: Any) -> tuple[list[list[int]], Any]:
    """Replies to some of the prompts in one batch, and the scores of each step, as what was drawn from."""
    width = max(len(PROMPTS[row]) for row in rows)
    ids = torch.tensor([[0] * (width - len(PROMPTS[row])) + PROMPTS[row] for row in rows])
    processor = SelfDebiasing(model, [COUNTERS[row] for row in rows], PAPER, 0)
    torch.manual_seed(1)
    output = model.generate(
        input_ids=ids, attention_mask=(ids > 0).long(), max_new_tokens=STEPS, do_sample=True, top_k=0,
        logits_processor=[processor], output_scores=True, return_dict_in_generate=True, **arguments,
    )  # fmt: skip
    return output.sequences[:, width:].tolist(), output.scores


@pytest.mark.parametrize("rows", [[0], [0, 1, 2], [1, 2, 0]])
def test_every_step_has_the_probabilities_of_the_formula(model: Any, rows: list[int]) -> None:
    replies, scores = generated(model, rows)
    assert len(scores) == STEPS
    changed = 0.0
    for place, row in enumerate(rows):
        for step in range(STEPS):
            prompt, reply = PROMPTS[row], replies[place][:step]
            wanted = by_formula(model, prompt, COUNTERS[row], reply)
            found = scores[step][place].double().exp()
            assert torch.allclose(found, wanted, atol=1e-5), (row, step)
            moved = float((wanted - following(model, [*prompt, *reply])).abs().max())
            changed = max(changed, moved)
            assert COUNTERS[row] or moved < 1e-9, "a row without counter prompts is left alone"
    assert changed > 0.1, "what is compared has to differ from what a plain teacher would draw from"


def test_temperature_and_top_p_are_applied_to_what_it_gives(model: Any) -> None:
    rows = [0, 1, 2]
    replies, scores = generated(model, rows, temperature=0.6, top_p=0.8)
    for place, row in enumerate(rows):
        for step in range(STEPS):
            raw = by_formula(model, PROMPTS[row], COUNTERS[row], replies[place][:step]).log().float()[None]
            warped = TopPLogitsWarper(0.8)(None, TemperatureLogitsWarper(0.6)(None, raw))
            assert torch.allclose(scores[step][place].exp(), warped[0].exp(), atol=1e-4)
            assert int(torch.isinf(scores[step][place]).sum()) == int(torch.isinf(warped).sum()) > 0


def test_what_every_prompt_writes_alike_is_left_alone(model: Any) -> None:
    same = SelfDebiasing(model, [[PROMPTS[0]], [PROMPTS[0]]], PAPER, 0)
    ids = torch.tensor([PROMPTS[0]] * 2)
    with torch.inference_mode():
        logits = model(input_ids=ids).logits[:, -1]
        assert torch.allclose(same(ids, logits), logits.log_softmax(-1), atol=1e-4)


def test_only_new_tokens_are_read(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    forward, widths = model.forward, list[tuple[int, ...]]()

    def counted(*args: Any, **arguments: Any) -> Any:
        widths.append(tuple(arguments["input_ids"].shape))
        return forward(*args, **arguments)

    processor = SelfDebiasing(model, COUNTERS, PAPER, 0)
    monkeypatch.setattr(model, "forward", counted)
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]])
    with torch.inference_mode():
        for _ in range(3):
            processor(ids, torch.zeros(3, WORDS))
            ids = torch.cat([ids, torch.tensor([[7], [8], [9]])], dim=1)
    # Three counter prompts of two rows, the longest of six tokens.
    assert widths == [(3, 6), (3, 1), (3, 1)]
