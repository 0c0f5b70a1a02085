"""The card of a student, `README.md` in its folder: what it is, how good, and how to use it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from markupsafe import Markup

from cluster.rundir import read_metrics, read_run
from cluster.storage import Store
from jobs.report.card import CARD, environment
from jobs.report.markdown import verbatim
from jobs.report.scores import read_scores

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TITLES = {"synthetic": "synthetic rows", "seeds": "gold seeds", "gold": "gold rows"}


def write_student_card(run: Store, name: str) -> str:
    """Write the card of a scored student and return where it is.

    Every figure is from `metrics.json` of the run and the manifest of the student. The example is to be run
    in the student's folder, and works as it stands.
    """
    key = f"students/{name}"
    record, metrics = read_run(run), read_metrics(run)
    trained = json.loads(run.read(f"{key}/manifest.json"))["report"]
    body = environment().get_template("student.md.j2").render(_context(run, name, record, metrics, trained))
    front = yaml.safe_dump(_front(metrics["students"][name]), sort_keys=False, allow_unicode=True)
    run.write(f"{key}/{CARD}", f"---\n{front}---\n\n{body}".encode())
    return f"{run.url}/{key}/{CARD}"


def _front(scored: Mapping[str, Any]) -> dict[str, Any]:
    kind = "text-generation" if scored.get("kind") == "causal" else "text-classification"
    front: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": kind, "tags": ["nightshift"]}
    if _HUB_ID.fullmatch(str(scored.get("base"))):
        front["base_model"] = scored["base"]
    return front


def _context(
    run: Store,
    name: str,
    record: Mapping[str, Any],
    metrics: Mapping[str, Any],
    trained: Mapping[str, Any],
) -> dict[str, Any]:
    task, scored = metrics.get("task") or {}, metrics["students"][name]
    resolved = record.get("resolved") or {}
    labels: Mapping[str, str] = task.get("labels") or dict.fromkeys(scored["labels"], "")
    (score,) = (each for each in read_scores(metrics, list(labels)) if each.name == name)
    others = [str(field) for field in scored.get("fields") or () if field != "text"]
    sources = scored.get("sources") or [scored["trained_on"]]
    synthesis = (metrics.get("synthesis") or {}) if "synthetic" in sources else {}
    return {
        "name": name,
        "instruction": str(task.get("instruction") or ""),
        "labels": {label: labels.get(label, "") for label in scored["labels"]},
        "score": score,
        "micro_f1": scored.get("micro_f1"),
        "calibration_error": scored.get("calibration_error"),
        "majority": (metrics.get("baselines") or {}).get("majority") or {},
        "test_rows": scored.get("test_rows"),
        "trained_on": ", ".join(_TITLES.get(source, source) for source in sources),
        "trained": trained,
        "kind": scored.get("kind", "encoder"),
        "fields": others,
        "run": str(record.get("run") or "a run"),
        "created": record.get("created"),
        "revision": record.get("revision"),
        "teacher": synthesis.get("teacher"),
        "method": synthesis.get("method"),
        "onnx": run.exists(f"students/{name}/model.onnx"),
        "license": resolved.get("license") or "unknown",
        "example": Markup(verbatim(_example_text(others))),
        "example_labels": Markup(json.dumps(scored["labels"], ensure_ascii=False)),
    }


def _example_text(fields: Sequence[str]) -> str:
    lines = (f"\\n{field.replace('_', ' ').capitalize()}: Another text." for field in fields)
    return "A text to classify." + "".join(lines)
