"""Conditions over the labels of students, such as "positive and about_food and not spam"."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A label of a student."""

    student: str
    label: str

    def __str__(self) -> str:
        return f"{self.student}:{self.label}"


@dataclass(frozen=True, slots=True)
class Not:
    """What holds when the other does not."""

    of: "Condition"


@dataclass(frozen=True, slots=True)
class And:
    """What holds when all do."""

    all: "tuple[Condition, ...]"


@dataclass(frozen=True, slots=True)
class Or:
    """What holds when any does."""

    any: "tuple[Condition, ...]"


Condition = Literal | Not | And | Or


def literals(condition: Condition) -> Iterator[Literal]:
    """Yield every label that a condition names, from left to right, as often as it names it."""
    match condition:
        case Literal():
            yield condition
        case Not(of):
            yield from literals(of)
        case And(parts) | Or(parts):
            for part in parts:
                yield from literals(part)


def truth(condition: Condition, known: Callable[[Literal], bool | None]) -> bool | None:
    """Return whether a condition holds; None unless all of its labels are known.

    Where one label alone can refute, rows that lack another could only ever count as wrong.
    """
    values = {each: known(each) for each in literals(condition)}
    if None in values.values():
        return None
    return _holds(condition, values)


def _holds(condition: Condition, values: Mapping[Literal, bool | None]) -> bool:
    match condition:
        case Literal():
            return values[condition] is True
        case Not(of):
            return not _holds(of, values)
        case And(parts):
            return all(_holds(part, values) for part in parts)
        case Or(parts):
            return any(_holds(part, values) for part in parts)
