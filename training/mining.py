"""Ranking a corpus by a condition over the labels of students, from their predictions of it."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.documents import META
from retrieval.tables import read_table
from training.condition import Condition, Literal, literals, truth
from training.conjunction import Evidence, exclusive_evidence, separate_evidence, weigh
from training.corpus_plan import DATA
from training.corpus_report import CorpusReport
from training.evaluate import wilson
from training.part_predictor import PROBABILITY

T = TypeVar("T")

Gold = Mapping[str, str]
"""Columns that hold what is true, by student; under the name "" one for every other student."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What one student says of the corpus: the folder of its predictions and their report."""

    folder: Store
    report: CorpusReport


@dataclass(frozen=True, slots=True)
class Mined:
    """A row of the corpus among the best.

    score is the natural logarithm of the probability that the condition holds; probabilities has those of
    the labels that it names. right is what the gold says: None where it does not say.
    """

    rank: int
    score: float
    id: str
    text: str
    probabilities: dict[str, float]
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Precision:
    """Share of the first rows that are right, with Wilson's 95 % interval; rows without gold are out."""

    at: int
    judged: int
    right: int
    precision: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Mine:
    """The best rows, best first; how many rows there are, have gold that tells, and are right by it."""

    best: tuple[Mined, ...]
    rows: int
    judged: int
    right: int

    def precision(self, at: int) -> Precision | None:
        """Return the precision of the first rows; None where there are fewer, or no gold tells of any."""
        truths = [each.right for each in self.best[:at] if each.right is not None]
        if len(self.best) < at or not truths:
            return None
        right = sum(truths)
        return Precision(at, len(truths), right, right / len(truths), wilson(right, len(truths)))


def mine(condition: Condition, students: Mapping[str, Predictions], top: int, gold: Gold) -> Mine:
    """Return the rows of a corpus for which a condition is likeliest, each text once, ties in order of ids.

    students holds predictions of one corpus, with its texts. Memory does not grow with the corpus.
    Errors: DataError.
    """
    best: list[Mined] = []
    rows = judged = right = 0
    used = {each.student: students[each.student] for each in literals(condition)}
    for tables in _parts(used, gold):
        part = _Part(condition, used, tables)
        truths = part.truths(gold) if gold else []
        rows += len(part.scores)
        judged += sum(each is not None for each in truths)
        right += sum(each is True for each in truths)
        floor = best[-1].score if len(best) == top else -math.inf
        found = sorted([*best, *part.above(floor, top, truths)], key=lambda each: (-each.score, each.id))
        best = _each_once(found, lambda each: each.id, top)
    ranked = tuple(replace(each, rank=rank) for rank, each in enumerate(best, 1))
    return Mine(ranked, rows, judged, right)


class _Part:
    """One part of the corpus, as all students see it."""

    def __init__(
        self, condition: Condition, students: Mapping[str, Predictions], tables: Mapping[str, pa.Table]
    ) -> None:
        self._condition = condition
        self._students = students
        self._first = next(iter(tables.values()))
        self._evidence = {
            each: _evidence(each, tables[each.student], students[each.student].report)
            for each in literals(condition)
        }
        self.scores = weigh(condition, self._evidence.__getitem__).holds

    def above(self, floor: float, top: int, truths: Sequence[bool | None]) -> list[Mined]:
        """Return the best rows of the part whose score reaches a floor, each text once, at most top."""
        ids, texts = self._first["id"], self._first["text"]
        found = [
            (-float(self.scores[row]), ids[row].as_py(), int(row))
            for row in np.flatnonzero(self.scores >= floor)
        ]
        chosen = _each_once(sorted(found), lambda each: each[1], top)
        return [
            Mined(
                rank=0,
                score=-score,
                id=id,
                text=texts[row].as_py(),
                probabilities={
                    str(name): float(np.exp(found.holds[row])) for name, found in self._evidence.items()
                },
                right=truths[row] if truths else None,
            )
            for score, id, row in chosen
        ]

    def truths(self, gold: Gold) -> list[bool | None]:
        """Return for each row whether the condition holds by its gold."""
        columns = [self._first[f"{META}{column}"].to_pylist() for column in gold.values()]
        rows = [dict(zip(gold, values, strict=True)) for values in zip(*columns, strict=True)]
        labels = {name: each.report.labels for name, each in self._students.items()}
        return [truth(self._condition, partial(_known, row, labels)) for row in rows]


def _each_once(ordered: Iterable[T], id: Callable[[T], str], most: int) -> list[T]:
    """Return the first of what has the same id, at most so many."""
    once: dict[str, T] = {}
    for each in ordered:
        once.setdefault(id(each), each)
        if len(once) == most:
            break
    return list(once.values())


def _evidence(literal: Literal, table: pa.Table, report: CorpusReport) -> Evidence:
    columns = [table[f"{PROBABILITY}{label}"].to_numpy() for label in report.labels]
    evidence = exclusive_evidence if report.exclusive else separate_evidence
    return evidence(np.stack(columns, axis=1), report.labels.index(literal.label))


def _parts(students: Mapping[str, Predictions], gold: Gold) -> Iterator[dict[str, pa.Table]]:
    """Yield what each student says of each part, its rows in the same order."""
    first = next(iter(students))
    keys = students[first].folder.list(DATA)
    for name, each in students.items():
        if each.folder.list(DATA) != keys:
            raise DataError(
                f"{each.folder.url}: student {name} was given another state of the corpus than {first}; "
                "remove the folder"
            )
    beside = ["id", "text", *(f"{META}{column}" for column in gold.values())]
    for key in keys:
        tables = {}
        for name, each in students.items():
            columns = [f"{PROBABILITY}{label}" for label in each.report.labels]
            tables[name] = read_table(each.folder, key, [*(beside if name == first else ["id"]), *columns])
            if not tables[name]["id"].equals(tables[first]["id"]):
                raise DataError(
                    f"{each.folder.url}/{key}: holds other rows than student {first} has; remove the folder"
                )
        yield tables


def _known(
    row: Mapping[str, str | None], labels: Mapping[str, Sequence[str]], literal: Literal
) -> bool | None:
    """Return whether a row has a label, by its gold; None when the gold does not say.

    Gold is a label; or a list of labels, which says that all others do not hold; or a mapping from a student
    to its label, or from a label, or `student:label`, to true or false (1 or 0).
    """
    own = literal.student in row
    raw = row[literal.student] if own else row.get("")
    if raw is None:
        return None
    gold = _value(raw)
    if isinstance(gold, Mapping):
        for name in (str(literal), literal.label):
            if isinstance(said := gold.get(name), int):
                return bool(said)
        return _matches(literal, gold.get(literal.student), labels[literal.student], own=True)
    return _matches(literal, gold, labels[literal.student], own)


def _matches(literal: Literal, gold: Any, labels: Sequence[str], own: bool) -> bool | None:
    """Compare one label, or a list of labels; own says that the gold is about the student alone."""
    if gold is None:
        return None
    if isinstance(gold, list):
        return literal.label in gold or str(literal) in gold
    value = gold if isinstance(gold, str) else json.dumps(gold)
    if value not in labels:
        # A label of another student says nothing of this one, unless the column is its own.
        return False if own else None
    return value == literal.label


def _value(raw: str) -> Any:
    """Return what a column holds: mappings and lists were kept as JSON, texts as they are."""
    if not raw.startswith(("{", "[")):
        return raw
    try:
        return json.loads(raw)
    except ValueError:
        return raw
