from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from cluster.errors import ModelError
from training.causal import Prompt, answer_ids, prompt_for
from training.dataset import TrainingRows, flattened
from training.likelihood import Causal
from training.reader import Reader
from training.records import Wording

CPU = torch.device("cpu")
PROMPTS = [[3, 4, 5, 6, 7], [8, 9], [10, 11, 12, 13]]
TEXTS = flattened([np.array(ids, dtype=np.int32) for ids in PROMPTS], pad_id=0)


class Letters:
    """A tokenizer of letters; `<` starts a text, `>` ends a reply."""

    chat_template: str | None = None
    pad_token_id = 0
    bos_token_id = ord("<")
    eos_token_id = ord(">")

    def __call__(self, texts: Any, max_length: int = 10**6, add_special_tokens: bool = True, **_: Any) -> Any:
        start = [self.bos_token_id] * add_special_tokens
        ids = [
            (start + [ord(letter) for letter in text])[:max_length]
            for text in ([texts] if isinstance(texts, str) else texts)
        ]
        return {"input_ids": ids[0] if isinstance(texts, str) else ids}

    def apply_chat_template(self, turns: list[dict[str, str]], **_: Any) -> str:
        return "<" + "".join(f"[{turn['role']}]{turn['content']}" for turn in turns) + "[reply]"


class Chatting(Letters):
    chat_template = "yes"


@pytest.fixture(scope="module")
def model() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    # Wide weights, or all answers would be about as likely.
    model: Any = LlamaForCausalLM(config).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    return model


def log_likelihood(model: Any, prompt: list[int], answer: list[int]) -> float:
    """Score one answer after one prompt, without padding, cache or anything shared."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    return float(sum(logits[len(prompt) - 1 + at, token] for at, token in enumerate(answer)))


@pytest.mark.parametrize(
    "answers", [[[20], [21], [22]], [[20, 21, 22], [20, 23], [24]]], ids=["single tokens", "several tokens"]
)
def test_probabilities_and_losses_are_those_of_each_sequence_alone(
    model: Any, answers: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two texts at a time where labels have several tokens.
    monkeypatch.setattr("training.likelihood._SEQUENCES", 6)
    scores = torch.tensor([[log_likelihood(model, p, a) for a in answers] for p in PROMPTS])
    chosen = np.array([1, 2, 0])
    with torch.no_grad():
        found = Causal(answers).probabilities(model, TEXTS, chosen, CPU)
    torch.testing.assert_close(found, scores[chosen].softmax(-1), atol=1e-5, rtol=1e-4)
    rows = TrainingRows(TEXTS, np.array([0, 2, 1]))
    losses = Causal(answers).losses(model, rows, chosen, CPU)
    torch.testing.assert_close(losses, -scores[chosen, [2, 1, 0]], atol=1e-4, rtol=1e-4)
    losses.sum().backward()


def test_only_the_labels_tokens_are_in_the_loss(model: Any) -> None:
    rows = TrainingRows(TEXTS, np.array([0, 1, 0]))
    logits = torch.zeros(2, 1, 40)
    seen: dict[str, Any] = {}

    def even(**given: Any) -> Any:
        seen.update(given)
        return type("Output", (), {"logits": logits})

    losses = Causal([[20], [21]]).losses(even, rows, np.array([0, 1]), CPU)
    assert losses.tolist() == pytest.approx([np.log(40)] * 2)
    assert seen["input_ids"].tolist() == [[3, 4, 5, 6, 7], [0, 0, 0, 8, 9]]
    assert seen["attention_mask"].tolist() == [[1] * 5, [0, 0, 0, 1, 1]]
    assert seen["position_ids"].tolist() == [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]]
    assert seen["logits_to_keep"] == 1


WORDING = Wording("Say what it is about. ", {"art": "pictures"}, "Headline")


def test_prompt_holds_the_task_and_goes_through_the_chat_template() -> None:
    prompt = prompt_for(Chatting(), ("art", "sport"), WORDING)
    asked = "Say what it is about.\n\nLabels:\n- art: pictures\n- sport: sport\n\nHeadline:\n"
    assert prompt.head == f"<[user]{asked}"
    assert prompt.tail == "\n\nAnswer with the label alone.[reply]"
    assert prompt.answers == prompt.labels == ("art", "sport")


def test_without_a_chat_template_the_prompt_ends_in_a_cue() -> None:
    prompt = prompt_for(Letters(), ("art", "sport"), WORDING)
    assert prompt.tail.endswith("\nLabel:")
    assert prompt.answers == (" art", " sport")


@pytest.mark.parametrize("tokenizer", [Letters(), Chatting()])
def test_texts_are_cut_and_prompts_are_not(tokenizer: Any) -> None:
    prompt = prompt_for(tokenizer, ("art", "sport"), WORDING)
    texts = Reader(tokenizer, 3, prompt)(["abcdef", "g"])
    whole = [
        "".join(map(chr, texts.tokens[i:j])) for i, j in zip(texts.starts, texts.starts[1:], strict=False)
    ]
    head = "<" + prompt.head.removeprefix("<")
    assert whole == [f"{head}abc{prompt.tail}", f"{head}g{prompt.tail}"]


def test_no_answer_is_how_another_begins() -> None:
    apart = Prompt(("a", "b"), "", "", ("art", "bar"))
    assert answer_ids(Letters(), apart) == [[*map(ord, "art")], [*map(ord, "bar")]]
    begins = Prompt(("a", "b"), "", "", ("art", "art history"))
    assert answer_ids(Letters(), begins) == [[*map(ord, "art>")], [*map(ord, "art history>")]]
    with pytest.raises(ModelError, match="two of them have the same tokens"):
        answer_ids(Letters(), Prompt(("a", "b"), "", "", ("art", "art")))
