"""Losses by which a student is judged on rows that may be mislabelled."""

import torch


def reverse_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, scale: float) -> torch.Tensor:
    """Return -sum(p * log q) of each row, (rows,): p are the probabilities of logits, (rows, classes).

    q = softmax(scale * one-hot of the target), for any number of classes. It is bounded and, but for a
    constant, in proportion to 1 - p(target), so that a row with a wrong label cannot outweigh the others
    (ProGen 2210.12329 with scale 1, SunGen 2205.12679 with 10).
    """
    one_hot = torch.nn.functional.one_hot(targets, logits.shape[-1]).to(logits.dtype)
    return -(logits.softmax(-1) * (scale * one_hot).log_softmax(-1)).sum(-1)
