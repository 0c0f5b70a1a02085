"""What the metrics of the dataset say, as lines of a table: the rows, the gold rows, and how to read it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobs.report.wording import NONE, count, percent, quantity

NAMES = {
    "self_bleu": "Self-BLEU",
    "distinct": "Distinct n-grams and vocabulary",
    "meaning": "Diversity of meaning",
    "vendi": "Vendi score",
    "mauve": "MAUVE",
    "entities": "Named entities",
    "profile": "Length and readability",
    "nearest": "Nearest rows by meaning",
    "nearest_rouge_l": "Nearest rows by Rouge-L",
    "copies": "Copies",
    "bound_terms": "Terms bound to a label",
    "labels": "Balance of labels",
    "map": "Map of meanings",
}
ORDERS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the dataset beside that of the gold rows, in words, and what to make of it."""

    name: str
    rows: str
    gold: str
    n: str
    reading: str


def answer(metrics: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return what a metric said; empty where it was not computed."""
    found = (metrics.get("quality") or {}).get(metric)
    return found if isinstance(found, dict) else {}


def not_computed(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return metrics without figures, and parts of metrics without, with the reason."""
    found = []
    for name, told in (metrics.get("quality") or {}).items():
        if isinstance(told, str):
            found.append((NAMES.get(name, name), told.removeprefix("not computed, because ")))
            continue
        parts = {part: each for part, each in told.items() if isinstance(each, Mapping)}
        for part, each in parts.items():
            if "not_computed" in each:
                found.append((f"{NAMES.get(name, name)}, {part}", str(each["not_computed"])))
    return found


def figures(metrics: Mapping[str, Any]) -> list[Figure]:
    """Return the figures that were computed, those of diversity first."""
    return [
        *_repetition(metrics),
        *_meaning(metrics),
        *_distance(metrics),
        *_entities(metrics),
        *_form(metrics),
    ]


def _number(figure: Any) -> str:
    """Word a figure; a dash where a reason stands in its place."""
    return quantity(figure) if isinstance(figure, int | float) else NONE


def _count(figure: Any) -> str:
    return count(figure) if isinstance(figure, int | float) else NONE


def _repetition(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    if told := answer(metrics, "self_bleu"):
        same = told.get("gold_same_n") or {}
        rows, gold = same.get("rows") or told["self_bleu"], same.get("gold") or {}
        for order in ("1", "5"):
            if order in rows:
                yield Figure(
                    f"Self-BLEU-{order}",
                    _number(rows[order]),
                    _number(gold.get(order)),
                    _count(same.get("n") or told["n"]),
                    "how much of a row the others say too; lower is more diverse",
                )
    if told := answer(metrics, "distinct"):
        same = told.get("gold_same_n") or {}
        rows, gold = same.get("rows") or told, same.get("gold") or {}
        for order in ("1", "2"):
            yield Figure(
                f"Distinct-{order}",
                _number((rows.get("distinct") or {}).get(order)),
                _number((gold.get("distinct") or {}).get(order)),
                _count(same.get("n") or told["n"]),
                "different n-grams, of all; higher is more diverse",
            )
        yield Figure(
            "Vocabulary",
            _count((rows.get("vocabulary") or {}).get("types")),
            _count((gold.get("vocabulary") or {}).get("types")),
            _count(same.get("n") or told["n"]),
            "different words",
        )


def _meaning(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    if told := answer(metrics, "meaning"):
        same = told.get("gold_same_n") or {}
        rows, gold = same.get("rows") or told, same.get("gold") or {}
        yield Figure(
            "Diversity of meaning",
            _number(rows.get("diversity")),
            _number(gold.get("diversity")),
            _count(same.get("n") or told["n"]),
            "one less the mean cosine of two rows; higher is more diverse",
        )
    if told := answer(metrics, "vendi"):
        same = told.get("gold_same_n") or {}
        rows, gold = same.get("rows") or told, same.get("gold") or {}
        yield Figure(
            "Vendi score",
            _number(rows.get("vendi")),
            _number(gold.get("vendi")),
            _count(same.get("n") or told["n"]),
            "how many rows would be as diverse if they had nothing in common",
        )


def _distance(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    if told := answer(metrics, "mauve"):
        warned = "; ".join(told.get("warnings") or [])
        reading = f"how near the rows are to gold rows, 0 to 1, over {len(told['scores'])} clusterings"
        yield Figure(
            "MAUVE",
            _with_spread(told["mean"], told["std"]),
            NONE,
            _count(told["n"]),
            f"{reading}; {warned}" if warned else reading,
        )


def _with_spread(mean: float, std: float | None) -> str:
    return f"{mean:.3f}" if std is None else f"{mean:.3f} ± {std:.3f}"


def _entities(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    if told := answer(metrics, "entities"):
        gold = told.get("gold") or {}
        yield Figure(
            "Entity entropy",
            _number(told["entropy"]),
            _number(gold.get("entropy")),
            _count(told["n"]),
            "bits, mean over types of entities; higher is more diverse",
        )
        yield Figure(
            "Entities a row",
            _number(told["per_row"]),
            _number(gold.get("per_row")),
            _count(told["n"]),
            "how much is named: people, places, works, dates",
        )


def _form(metrics: Mapping[str, Any]) -> Iterator[Figure]:
    told = answer(metrics, "profile")
    gold = told.get("gold") or {}
    wordings = (
        ("tokens", "Tokens a row", "mean"),
        ("flesch_grade", "Reading grade", "Flesch-Kincaid, mean, for English"),
    )
    for key, name, reading in wordings:
        rows = (told.get("rows") or {}).get(key) or {}
        if "mean" in rows:
            beside = _number((gold.get(key) or {}).get("mean"))
            yield Figure(name, _number(rows["mean"]), beside, _count(told["n"]), reading)
    if copies := answer(metrics, "copies"):
        share, of = copies["repeated"]["share"], (copies.get("gold") or {}).get("share")
        yield Figure(
            "Rows that repeat another", percent(share), NONE, _count(copies["n"]), "but for case and spacing"
        )
        if of is not None:
            yield Figure("Rows that are gold test rows", percent(of), NONE, _count(copies["n"]), "a leak")
