"""The report's run folder with answers of metrics, and gold rows for them, that try to break the page."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.report.findings import SHOWN
from tests.unit.jobs.test_report import EVIL, LABELS, NASTY, make_metrics, write_dataset, write_ledger

FILM, JAPAN = list(LABELS)[1:]
GOLD = [f"g{place}" for place in range(4)]


def row(place: int) -> str:
    """Return the id of a row that `write_dataset` writes; its label is the one at place modulo three."""
    return f"{place}{'ab' * 8}-0"


def measured() -> dict[str, Any]:
    """Answers as metrics give them, of six rows and four gold rows, that are nothing to worry about."""
    apart = {"n": 4, "mean": 0.2, "share_alike": 0.0, "pairs": [pair(row(0), GOLD[0], 0.61)]}
    lengths = {"tokens": {"n": 6, "mean": 41.5}, "flesch_grade": {"n": 6, "mean": 8.25}}
    return {
        "self_bleu": {
            "n": 6,
            "self_bleu": {"1": 0.91, "2": 0.8, "5": 0.61},
            "gold_n": 4,
            "gold_same_n": {
                "n": 4,
                "rows": {"1": 0.801, "2": 0.7, "5": 0.402},
                "gold": {"1": 0.703, "2": 0.5, "5": 0.304},
            },
        },
        "distinct": same(
            {"distinct": {"1": 0.501, "2": 0.902}, "vocabulary": {"types": 1234}},
            {"distinct": {"1": 0.603, "2": 0.954}, "vocabulary": {"types": 2345}},
        ),
        "meaning": same({"diversity": 0.712}, {"diversity": 0.813}),
        "vendi": same({"vendi": 2.71}, {"vendi": 3.14}),
        "mauve": {"n": 6, "gold_n": 4, "mean": 0.8765, "std": 0.0123, "scores": [0.9, 0.8], "warnings": []},
        "entities": {
            "n": 6,
            "entropy": 2.22,
            "per_row": 3.33,
            "types": {"PERSON": {"entropy": 1.5}, "<b>GPE": {"entropy": 2.5}},
            "gold": {"entropy": 4.44, "per_row": 5.55, "types": {"PERSON": {"entropy": 1.7}}},
        },
        "profile": {
            "n": 6,
            "rows": lengths,
            "gold": {"tokens": {"n": 4, "mean": 39.5}, "flesch_grade": {"not_computed": "no Latin words"}},
            "distance": {"wasserstein": 2.0, "ks": 0.21},
            "histogram": {"edges": [10, 20, 30, 40], "rows": [1, 3, 2], "gold": [2, 1, 1]},
        },
        "nearest": {"n": 6, "alike": 0.95, "gold": apart, "rows": {**apart, "pairs": []}, "examples": []},
        "nearest_rouge_l": {"n": 6, "gold": {"nearest": [{"id": row(1), "other": GOLD[1], "score": 0.4}]}},
        "copies": {"n": 6, "repeated": none(), "contradicting": none(), "gold": {"of": 4, **none()}},
        "bound_terms": {"n": 6, "gold_n": 4, "terms": []},
        "labels": {"n": 6, "without_rows": []},
        "map": {
            "n": 2,
            "labels": sorted(LABELS),
            "points": [[0.1, 0.2, 0, 0], [0.3, 0.1, 1, 0], [0.2, 0.2, 2, 1], [0.5, 0.5, -1, 0]],
            "explained": [0.41, 0.19],
        },
    }


def none() -> dict[str, Any]:
    return {"rows": 0, "share": 0.0, "ids": []}


def same(rows: dict[str, Any], gold: dict[str, Any]) -> dict[str, Any]:
    """An answer with figures of all rows, which are others, and of as many rows as gold rows."""
    return {
        "n": 6,
        **scaled(rows),
        "gold_n": 4,
        "gold": gold,
        "gold_same_n": {"n": 4, "rows": rows, "gold": gold},
    }


def scaled(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: scaled(each) if isinstance(each, dict) else 2 * each for name, each in figures.items()}


def pair(one: str, other: str, cosine: float) -> dict[str, Any]:
    return {"row": one, "other": other, "cosine": cosine}


def term(word: str, label: str, in_gold: bool, *ids: str) -> dict[str, Any]:
    counts = {"term": word, "label": label, "inside": 1500, "outside": 2, "odds": 88.0, "p": 0.001}
    return counts | {"also_in_gold": in_gold, "ids": list(ids)}


def write_run(folder: Path, quality: Any) -> Path:
    """Write a run folder whose metrics say so; without answers where it is None."""
    folder.mkdir(exist_ok=True)
    told = make_metrics() | ({} if quality is None else {"quality": quality})
    record = {"run": "a_run", "created": "2025-01-02T03:04:05+00:00", "resolved": {"run": "a_run"}}
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.json").write_text(json.dumps(told))
    if not (folder / "data").exists():
        write_ledger(folder)
        write_dataset(folder)
        rows = [{"id": id, "text": f"gold {id} {EVIL}", "labels": [FILM, NASTY]} for id in GOLD]
        (folder / SHOWN).parent.mkdir()
        pq.write_table(pa.Table.from_pylist(rows), folder / SHOWN)
    return folder
