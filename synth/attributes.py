"""Attributes: the ways in which texts differ, the values they take, given or asked for, and their tables."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pyarrow as pa
from pydantic import field_validator, model_validator

from cluster.errors import SettingsError
from cluster.settings import Settings


@dataclass(frozen=True, slots=True)
class Dimension:
    """A way in which texts differ."""

    name: str
    what: str = ""
    by_label: bool = False
    """Whether each label has values of its own."""
    values: Mapping[str | None, Sequence[str]] = field(default_factory=dict)
    """Values that the user gave, by label, or under None for all; without any the teacher is asked."""


class AttributeSettings(Settings):
    """A dimension of the user's; a list is its values, a text says what it is, `null` leaves both open."""

    what: str = ""
    """What it is, in words of the prompt."""
    by_label: bool = False
    """Whether each label has values of its own, as subtopics have."""
    values: tuple[str, ...] | dict[str, tuple[str, ...]] | None = None
    """Its values, or those of each label; without them the teacher is asked."""

    @model_validator(mode="before")
    @classmethod
    def _in_short(cls, data: Any) -> Any:
        if data is None or isinstance(data, str):
            return {"what": data or ""}
        if isinstance(data, list | tuple):
            return {"values": data}
        if isinstance(data, dict) and isinstance(data.get("values"), dict):
            return {"by_label": True} | data
        return data

    @field_validator("values", mode="before")
    @classmethod
    def _texts(cls, values: Any) -> Any:
        if isinstance(values, dict):
            return {label: _as_texts(each) for label, each in values.items()}
        return _as_texts(values)

    @model_validator(mode="after")
    def _filled(self) -> "AttributeSettings":
        if self.values is None:
            return self
        if self.by_label != isinstance(self.values, dict):
            raise ValueError("by_label: needs values label by label, or none; a plain list is for all labels")
        groups = [*self.values.values()] if isinstance(self.values, dict) else [self.values]
        if not groups or not all(group and all(map(str.strip, group)) for group in groups):
            raise ValueError(
                "values: give at least one, none that is empty; or none, and the teacher is asked"
            )
        return self

    def dimension(self, name: str, labels: Sequence[str]) -> "Dimension":
        """Return the dimension for a task of these labels; SettingsError when its values are not for them."""
        values = self.values if isinstance(self.values, dict) else {}
        wrong = [f"{label} has none" for label in labels if values and label not in values]
        wrong += [f"the task has no label {label}" for label in values if label not in labels]
        if wrong:
            raise SettingsError(f"method.attributes.{name}.values: {wrong[0]}; give values for each label")
        given: dict[str | None, Sequence[str]] = dict(values.items())
        if isinstance(self.values, tuple):
            given[None] = self.values
        return Dimension(name, self.what, self.by_label, given)


def _as_texts(values: Any) -> Any:
    """Return a list with texts for what YAML read as numbers."""
    if not isinstance(values, list | tuple):
        return values
    return [str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v for v in values]


class Value(NamedTuple):
    """A row of the table `attributes`; without a value, it says why there is none."""

    label: str | None
    """None stands for all labels."""
    attribute: str
    value: str | None
    kept: bool = True
    reason: str | None = None
    """Why it was dropped, or kept without a verdict; begins with the stage."""


@dataclass(slots=True)
class Tally:
    """Replies of one stage."""

    asked: int = 0
    got: int = 0
    """Those that could be read."""
    last: str = ""
    """The last one."""

    def add(self, asked: int, got: int, text: str) -> None:
        """Count some replies, so many of them readable."""
        self.asked, self.got, self.last = self.asked + asked, self.got + got, text


def stage_table(stages: Mapping[str, Tally]) -> pa.Table:
    """Return the table `stages`: of each that was needed the replies, and those that could be read."""
    rows = [(name, tally.asked, tally.got) for name, tally in stages.items() if tally.asked]
    schema = pa.schema([("stage", pa.string()), ("asked", pa.int64()), ("got", pa.int64())])
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def attribute_table(values: Sequence[Value], dimensions: Sequence[str]) -> pa.Table:
    """Return the table `attributes`, in the order of the dimensions."""
    order = {name: place for place, name in enumerate(dimensions)}
    rows = sorted(values, key=lambda value: order[value.attribute])
    kinds = [pa.string(), pa.string(), pa.string(), pa.bool_(), pa.string()]
    schema = pa.schema([*zip(Value._fields, kinds, strict=True)])
    return pa.Table.from_pylist([row._asdict() for row in rows], schema=schema)


def similar_table(similar: Mapping[str, Sequence[str]]) -> pa.Table:
    """Return the table `similar`: of each label the closest others, by rank from 1."""
    rows = [(label, rank, name) for label, names in similar.items() for rank, name in enumerate(names, 1)]
    kinds = [("label", pa.string()), ("rank", pa.int32()), ("similar", pa.string())]
    schema = pa.schema(kinds)
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema=schema)


def kept_values(table: pa.Table, labels: Collection[str]) -> dict[str, dict[str, list[str]]]:
    """Return of each label the values of each attribute that it has any of, in the order of the table."""
    pools: dict[str, dict[str, list[str]]] = {label: {} for label in labels}
    for row in table.to_pylist():
        if row["kept"]:
            for label in pools if row["label"] is None else (row["label"],):
                pools[label].setdefault(row["attribute"], []).append(row["value"])
    return pools


def words(name: str) -> str:
    """Return an attribute's name as a prompt shows it."""
    return name.replace("_", " ")
