"""How many rows a recipe wants, and of which label how many."""

import json
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cluster.errors import SettingsError
from cluster.settings import Settings

_EXAMPLE = "give a number of rows, or rows for each label such as {World: 500, Sports: 0}"


def _rows(value: Any) -> Any:
    """Check rows for all labels or for each, with one message where a union would give two."""
    if isinstance(value, Mapping):
        for label, rows in value.items():
            if not isinstance(rows, int) or isinstance(rows, bool) or rows < 0:
                raise ValueError(f"{label}: {json.dumps(rows)} is no number of rows; {_EXAMPLE}")
        if not any(value.values()):
            raise ValueError(f"wants no rows at all; {_EXAMPLE}")
        return dict(value)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"Input should be a valid integer; {_EXAMPLE}")
    if value < 1:
        raise ValueError(f"Input should be greater than or equal to 1; {_EXAMPLE}")
    return value


class Targets(Settings):
    """How much is wanted."""

    rows_per_label: Annotated[int | dict[str, int] | None, BeforeValidator(_rows)] = None
    """Accepted rows of every label in the dataset: one number, or one for each label."""
    rows: int | None = Field(None, ge=1)
    """Accepted rows of the whole dataset, in place of rows_per_label."""
    distribution: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None = None
    """Share of each label in rows; shares need not add up to one. Without it all are equal."""
    ceiling: float = Field(5.0, ge=1)
    """Items drawn for a label, at most, as a multiple of its target; a label that reaches it has stalled."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.rows is None) == (self.rows_per_label is None):
            given = "both are given" if self.rows is not None else "neither is"
            raise ValueError(f"give exactly one of rows_per_label and rows; {given}")
        if self.distribution is not None and self.rows is None:
            raise ValueError("distribution: shares out rows; give rows in place of rows_per_label")
        if self.distribution is not None and not any(self.distribution.values()):
            raise ValueError("distribution: gives no label a share; give at least one above 0")
        return self

    def quotas(self, labels: Collection[str]) -> dict[str, int]:
        """Return the rows wanted of each label of a task, in its order.

        SettingsError names labels that the task does not have or that are left out.
        """
        if isinstance(self.rows_per_label, int):
            return dict.fromkeys(labels, self.rows_per_label)
        if self.rows_per_label is not None:
            _check("targets.rows_per_label", self.rows_per_label, labels)
            return {label: self.rows_per_label[label] for label in labels}
        shares: Mapping[str, float] = dict.fromkeys(labels, 1.0)
        if self.distribution is not None:
            _check("targets.distribution", self.distribution, labels)
            shares = {label: self.distribution[label] for label in labels}
        return _shared_out(self.rows or 0, shares)


def _check(setting: str, given: Collection[str], labels: Collection[str]) -> None:
    unknown = [label for label in given if label not in labels]
    missing = [label for label in labels if label not in given]
    faults = []
    if unknown:
        faults.append(f"the task has no label {_listed(unknown)}")
    if missing:
        faults.append(f"{_listed(missing)} missing; 0 wants no rows of a label")
    if faults:
        raise SettingsError(f"{setting}: {'; '.join(faults)}; its labels are {_listed(list(labels))}")


def _shared_out(rows: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Share rows out by the largest remainder; of equal remainders the earlier label gets the row."""
    weights = {label: Fraction(str(share)) for label, share in shares.items()}
    total = sum(weights.values())
    exact = {label: rows * weight / total for label, weight in weights.items()}
    quotas = {label: int(number) for label, number in exact.items()}
    by_remainder = sorted(quotas, key=lambda label: quotas[label] - exact[label])
    for label in by_remainder[: rows - sum(quotas.values())]:
        quotas[label] += 1
    empty = [label for label, weight in weights.items() if weight and not quotas[label]]
    if empty:
        raise SettingsError(
            f"targets.rows: {rows} leaves no row for {_listed(empty)}; raise it, or give such a label the "
            "share 0 in targets.distribution"
        )
    return quotas


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(labels[:20])
    return shown if len(labels) <= 20 else f"{shown} and {len(labels) - 20:,} more"
