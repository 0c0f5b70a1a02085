"""How much of what was asked for came through, stage by stage: preparation, method, filters, judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

FILTERS = frozenset(
    [
        "broken_text",
        "copies_document",
        "copies_seed",
        "copies_shot",
        "copies_test",
        "label_leak",
        "refusal",
        "repetition",
        "too_long",
        "too_short",
        "wrong_language",
    ]
)
"""Reasons of the filters (`synth.filters`), each perhaps followed by ` in` and the name of a field."""


@dataclass(frozen=True, slots=True)
class Passed:
    """One stage: how much went in, and how much of it came out."""

    stage: str
    asked: int
    got: int


def acceptance(
    prepared: pa.Table | None, rejected: Mapping[str, int], accepted: int, stages: Sequence[str]
) -> list[Passed]:
    """Return the stages in the order in which a row passes them; filters and judge only where they refused.

    `prepared` is the table `stages` that a method's `prepare` made (columns stage, asked, got); `rejected`
    counts rejections by reason; `stages` are the method's own, in order, which its reasons begin with. What
    a method counts in preparation, replies or entries of lists, is its own; from then on it is rows.
    """
    refused = dict.fromkeys([*stages, "filters", "judge"], 0)
    for reason, number in rejected.items():
        refused[_stage(reason, stages)] += number
    told = prepared.to_pylist() if prepared is not None else []
    passed = [Passed(row["stage"], row["asked"], row["got"]) for row in told]
    left = accepted + sum(refused.values())
    for stage, number in refused.items():
        if stage in stages or number:
            passed.append(Passed(stage, left, left - number))
        left -= number
    return passed


def _stage(reason: str, stages: Sequence[str]) -> str:
    first = reason.partition(":")[0]
    if first in stages:
        return first
    if reason.partition(" in ")[0] in FILTERS:
        return "filters"
    return "judge" if reason.startswith("judge_") else stages[0]
