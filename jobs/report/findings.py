"""The rows behind what was found: leaks, contradictions, repetition, terms that give a label away."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from cluster.storage import Store
from jobs.report.quality import answer
from jobs.report.samples import Row, Source, rows_by_id
from jobs.report.wording import decimal

SHOWN = "quality/shown.parquet"
"""Gold rows and seeds that metrics name, as they have no place of their own in a run folder."""
_EACH = 5


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows beside each other, and how alike they are."""

    row: Row
    other: Row
    note: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, how to read it, and the first rows it was found in."""

    title: str
    note: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A term that gives a label away, with a row that has it."""

    term: str
    label: str
    inside: int
    outside: int
    odds: float
    also_in_gold: bool | None
    """None where there are no gold rows."""
    row: Row | None


def read_gold(run: Store) -> dict[str, Row]:
    """Return the gold rows and seeds that metrics name, by id."""
    if not run.exists(SHOWN):
        return {}
    rows = pq.read_table(run.fetch(SHOWN)).to_pylist()
    return {row["id"]: Row(row["id"], ", ".join(row["labels"]), row["text"]) for row in rows}


def nearest_gold(metrics: Mapping[str, Any], gold: Mapping[str, Row]) -> dict[str, Source]:
    """Return the gold row nearest to each of the rows that are shown, by the rows' ids."""
    examples = answer(metrics, "nearest").get("examples") or []
    return {
        each["row"]: Source(each["other"], row.label, row.text, each["cosine"])
        for each in examples
        if (row := gold.get(each["other"])) is not None
    }


def findings(run: Store, metrics: Mapping[str, Any], gold: Mapping[str, Row]) -> list[Finding]:
    """Return what was found in rows, with the rows; nothing where nothing was."""
    copies, near, rouge = (answer(metrics, name) for name in ("copies", "nearest", "nearest_rouge_l"))
    alike = near.get("alike", 1.0)
    wanted: list[tuple[str, str, list[tuple[str, str, str]]]] = [
        (
            "Rows that are gold test rows",
            "Scores on these gold rows are worth less.",
            _equal((copies.get("gold") or {}).get("ids")),
        ),
        (
            "Rows almost like a gold test row",
            f"By meaning, from a cosine of {alike}.",
            _near((near.get("gold") or {}).get("pairs"), alike),
        ),
        (
            "Rows that share long runs of words with a gold test row",
            "By Rouge-L, from 0.7.",
            _rouge((rouge.get("gold") or {}).get("nearest")),
        ),
        (
            "One text under several labels",
            "One of them is wrong, or the labels overlap.",
            _equal((copies.get("contradicting") or {}).get("ids")),
        ),
        (
            "Rows that repeat another",
            "But for case and spacing.",
            _equal((copies.get("repeated") or {}).get("ids")),
        ),
        (
            "Rows almost like another row",
            f"By meaning, from a cosine of {alike}.",
            _near((near.get("rows") or {}).get("pairs"), alike),
        ),
    ]
    rows = rows_by_id(run, {id for _, _, pairs in wanted for one, other, _ in pairs for id in (one, other)})
    known = {**gold, **rows}
    return [
        Finding(title, note, tuple(shown))
        for title, note, pairs in wanted
        if (shown := [Pair(known[a], known[b], why) for a, b, why in pairs if a in known and b in known])
    ]


def _equal(pairs: Iterable[Sequence[str]] | None) -> list[tuple[str, str, str]]:
    return [(pair[0], pair[1], "the same") for pair in pairs or ()][:_EACH]


def _near(pairs: Iterable[Mapping[str, Any]] | None, least: float) -> list[tuple[str, str, str]]:
    found = [each for each in pairs or () if each["cosine"] >= least]
    return [(each["row"], each["other"], f"cosine {decimal(each['cosine'])}") for each in found][:_EACH]


def _rouge(pairs: Iterable[Mapping[str, Any]] | None) -> list[tuple[str, str, str]]:
    found = [each for each in pairs or () if each["score"] >= 0.7]
    return [(each["id"], each["other"], f"Rouge-L {decimal(each['score'])}") for each in found][:_EACH]


def bound(run: Store, metrics: Mapping[str, Any]) -> list[Bound]:
    """Return terms that give a label away, those first that do not among gold rows."""
    terms = answer(metrics, "bound_terms").get("terms") or []
    rows = rows_by_id(run, {term["ids"][0] for term in terms if term["ids"]})
    return [
        Bound(
            term["term"],
            term["label"],
            term["inside"],
            term["outside"],
            term["odds"],
            term.get("also_in_gold"),
            rows.get(term["ids"][0]) if term["ids"] else None,
        )
        for term in terms
    ]
