"""What a causal student is taught, the tokens of the right label; and how likely it holds each label."""

from collections.abc import Sequence
from typing import Any

import torch

from training.dataset import Indices, Texts, TrainingRows

_SEQUENCES = 256


class Causal:
    """The log-likelihood of a label is the sum of its tokens' after the prompt.

    The loss is its negative for the row's label, and only the label's tokens are in it. The probabilities are
    the softmax of the labels' log-likelihoods: the model's own posterior, given that it answers with a label.
    They are not divided by the labels' lengths, which would undo what the loss has taught; that is for models
    that were never trained on the labels.
    """

    def __init__(self, answers: Sequence[Sequence[int]]) -> None:
        longest = max(len(ids) for ids in answers)
        # What pads an answer is never looked at.
        self.tokens = torch.tensor([[*ids, *[ids[0]] * (longest - len(ids))] for ids in answers])
        self.mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids in answers])

    def losses(self, model: Any, rows: TrainingRows, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the loss of each chosen row, (rows,) float32."""
        prompts, before = rows.texts.padded(chosen, left=True)
        gold = torch.from_numpy(rows.targets[chosen])
        answers, within = self.tokens[gold], self.mask[gold]
        tokens = torch.cat([prompts, answers[:, :-1]], 1).to(device)
        mask = torch.cat([before, within[:, :-1]], 1).to(device)
        logits = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=_positions(mask),
            use_cache=False,
            logits_to_keep=answers.shape[1],
        ).logits
        return -(_log_likelihood(logits, answers.to(device)) * within.to(device)).sum(-1)

    def probabilities(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the probability of every label for each chosen text, (texts, labels) float32.

        A prompt is read once, for all labels; labels of several tokens go on from what was read, some texts
        at a time, because each label then needs its own copy of it.
        """
        labels, length = self.tokens.shape
        size = len(chosen) if length == 1 else max(1, _SEQUENCES // labels)
        cuts = range(0, len(chosen), size)
        scores = [self._scores(model, texts, chosen[cut : cut + size], device) for cut in cuts]
        return torch.cat(scores).softmax(-1)

    def _scores(self, model: Any, texts: Texts, chosen: Indices, device: torch.device) -> torch.Tensor:
        """Return the log-likelihood of every label, (texts, labels)."""
        tokens, mask = (values.to(device) for values in texts.padded(chosen, left=True))
        labels, length = self.tokens.shape
        output = model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=_positions(mask),
            use_cache=length > 1,
            logits_to_keep=1,
        )
        last = output.logits[:, -1].float()
        scores: torch.Tensor = last[:, self.tokens[:, 0].to(device)] - last.logsumexp(-1, keepdim=True)
        if length == 1:
            return scores
        cache = output.past_key_values
        cache.batch_repeat_interleave(labels)
        answers, within = (values.to(device).repeat(len(chosen), 1) for values in (self.tokens, self.mask))
        whole = torch.cat([mask.repeat_interleave(labels, 0), within[:, :-1]], 1)
        logits = model(
            input_ids=answers[:, :-1],
            attention_mask=whole,
            position_ids=_positions(whole)[:, 1 - length :],
            past_key_values=cache,
            use_cache=True,
        ).logits
        rest = (_log_likelihood(logits, answers[:, 1:]) * within[:, 1:]).sum(-1)
        return scores + rest.view(len(chosen), labels)


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


def _log_likelihood(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each token, (sequences, tokens), under the logits at its place."""
    logits = logits.float()
    return logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
