"""Self-debiasing: what the prompts of other labels would write as well becomes unlikely, token by token.

ZeroGen (2202.07922) uses it for sentence pairs, where a text of one label easily fits another too. No module
of teachers may load torch when it is imported.
"""

import inspect
from collections.abc import Sequence
from math import log
from typing import Any

from synth.records import Against


class SelfDebiasing:
    """A logits processor: p becomes p * max(floor, exp(-decay * max(0, q - p))), then adds up to one again.

    q is the highest probability that a token has after any of a row's counter prompts, each continued with
    the reply so far. It acts on the raw distribution: generate applies temperature and top_p to its result.
    """

    def __init__(
        self, model: Any, counters: Sequence[Sequence[Sequence[int]]], against: Against, pad: int
    ) -> None:
        """Take for each row of the batch the tokens of its counter prompts, and the token that pads them."""
        self._model = model
        self._contexts = [tokens for row in counters for tokens in row]
        self._owners = [number for number, row in enumerate(counters) for _ in row]
        self._decay, self._floor = against.decay, log(against.floor)
        self._pad = pad
        self._cache: Any = None
        self._mask: Any = None
        self._seen = 0
        self._known = inspect.signature(model.forward).parameters

    def __call__(self, ids: Any, scores: Any) -> Any:
        """Return the scores of the next tokens; ids are prompts and replies so far, scores raw logits."""
        import torch

        counter = torch.softmax(self._next_logits(ids).to(torch.float32), dim=-1)
        owners = torch.tensor(self._owners, device=scores.device)
        most = torch.zeros_like(counter[:1]).repeat(len(scores), 1)
        most.scatter_reduce_(0, owners[:, None].expand_as(counter), counter, "amax")
        own = torch.log_softmax(scores.to(torch.float32), dim=-1)
        penalty = (-self._decay * (most - own.exp()).clamp(min=0)).clamp(min=self._floor)
        return torch.log_softmax(own + penalty, dim=-1)

    def _next_logits(self, ids: Any) -> Any:
        """Return the logits after every counter prompt and its row's reply; only new tokens are read."""
        import torch

        if self._cache is None:
            tokens, self._mask = self._padded(ids.device)
        else:
            tokens = ids[self._owners, self._seen :]
            self._mask = torch.cat([self._mask, torch.ones_like(tokens)], dim=1)
        self._seen = ids.shape[1]
        positions = (self._mask.cumsum(dim=1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        # Not every architecture counts positions or can leave logits out.
        more = {"position_ids": positions, "logits_to_keep": 1}
        output = self._model(
            input_ids=tokens,
            attention_mask=self._mask,
            past_key_values=self._cache,
            use_cache=True,
            **{name: value for name, value in more.items() if name in self._known},
        )
        self._cache = output.past_key_values
        return output.logits[:, -1]

    def _padded(self, device: Any) -> tuple[Any, Any]:
        """Return all counter prompts as one matrix, padded on the left, and its attention mask."""
        import torch

        width = max(map(len, self._contexts))
        gaps = [width - len(tokens) for tokens in self._contexts]
        tokens = [[self._pad] * gap + list(tokens) for gap, tokens in zip(gaps, self._contexts, strict=True)]
        mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
        return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
