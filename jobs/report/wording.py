"""Numbers and names as the report words them; what was not measured is a dash."""

import json
from typing import Any

NONE = "–"
JOINT = "\u00a0"
"""A space that keeps a number and its unit on one line."""
_SECONDS_SHOWN = 120
_MINUTES_SHOWN = 120
_LEAST_SHOWN = 0.001


def percent(share: float | None) -> str:
    """Write a share, 0 to 1, as a percentage with one decimal."""
    return NONE if share is None else f"{100 * share:.1f}{JOINT}%"


def count(number: float | None) -> str:
    """Write a count with thousands apart."""
    return NONE if number is None else f"{number:,.0f}"


def quantity(number: float | None) -> str:
    """Write an amount that is not a whole number, with three digits that matter."""
    if number is None:
        return NONE
    if 0 < number < _LEAST_SHOWN:
        return f"<{JOINT}{_LEAST_SHOWN}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def money(amount: float | None) -> str:
    """Write an amount of money, with two decimals, or more where it is small."""
    return f"{amount:,.2f}" if amount and amount >= 1 else quantity(amount)


def decimal(number: float | None) -> str:
    """Write a score with two decimals."""
    return NONE if number is None else f"{number:.2f}"


def duration(seconds: float | None) -> str:
    """Write seconds in the unit a person would choose."""
    if seconds is None:
        return NONE
    if seconds < _SECONDS_SHOWN:
        return f"{seconds:.0f}{JOINT}s"
    minutes = seconds / 60
    return f"{minutes:.0f}{JOINT}min" if minutes < _MINUTES_SHOWN else f"{minutes / 60:.1f}{JOINT}h"


def interval(low: float | None, high: float | None) -> str:
    """Write the interval of an accuracy, or nothing when there is none."""
    return "" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f}{JOINT}%"


def spread(mean: float, std: float, runs: int) -> str:
    """Write mean and standard deviation of the accuracies of several runs."""
    return f"{100 * mean:.1f}{JOINT}±{JOINT}{100 * std:.1f}{JOINT}% in {runs} runs"


def points(difference: float) -> str:
    """Write a difference of two shares as percentage points more or less."""
    return f"{100 * abs(difference):.1f}{JOINT}points {'less' if difference < 0 else 'more'}"


def model_name(model: str) -> str:
    """Return the last part of a model's id or path."""
    return model.rstrip("/").rsplit("/", maxsplit=1)[-1] or model


def plain(value: Any) -> str:
    """Write a setting's value: text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def excerpt(text: str, characters: int) -> str:
    """Cut a long text at a word and say how much was left out."""
    if len(text) <= characters:
        return text
    kept = (text[:characters].rsplit(maxsplit=1) or [""])[0]
    return f"{kept} … ({len(text) - len(kept):,} more characters)"
