"""Score the students on gold test rows, beside the majority class, and say how grounded the rows are.

nightshift evaluate recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.evaluate recipe.yaml
"""

import io
import json
from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.rundir import read_metrics, update_metrics
from cluster.settings import digest
from jobs.job import job
from jobs.stage import Stage
from jobs.train import Pupil, pupils
from synth.metrics.grounding import grounding
from synth.preparation import read_sources
from training.evaluate import score
from training.predict import predict_on_cluster

GROUNDING_SEED = 0
"""Seed of the random documents that rows are compared with."""


def run(stage: Stage) -> int:
    """Score every student and record the metrics."""
    stage.lease.renew(force=True)
    found = list(pupils(stage))
    gold = [row.label for row in stage.plan.test]
    majority, count = Counter(gold).most_common(1)[0]
    update_metrics(
        stage.run,
        test={"rows": len(gold)},
        baselines={"majority": {"accuracy": count / len(gold), "label": majority}},
        students={pupil.settings.name: _scores(stage, pupil) for pupil in found},
        grounding=_grounding(stage),
    )
    stage.progress.event("evaluated")
    return 0


def _scores(stage: Stage, pupil: Pupil) -> dict[str, Any]:
    """Return the scores of one student on the gold test rows."""
    if not stage.run.exists(f"{pupil.key}/manifest.json"):
        raise DataError(f"{stage.run.url}/{pupil.key}: is not trained; run `nightshift train` first")
    trained = json.loads(stage.run.read(f"{pupil.key}/manifest.json"))["report"]
    scored = digest([trained, [row.id for row in stage.plan.test]])
    earlier = read_metrics(stage.run).get("students", {}).get(pupil.settings.name, {})
    if earlier.get("scored") == scored:
        return dict(earlier)
    texts = [stage.task.as_one_text(row.fields) for row in stage.plan.test]
    probabilities = predict_on_cluster(stage.run, pupil.key, texts)
    scores = score([row.label for row in stage.plan.test], probabilities, stage.task.labels).to_json()
    low, high = scores["accuracy_interval"]
    return scores | {
        "scored": scored,
        "trained_on": pupil.trained_on,
        "rows": trained["rows"],
        "test_rows": scores["rows"],
        "base": pupil.settings.base,
        "accuracy_low": low,
        "accuracy_high": high,
        "seconds": trained["seconds"],
    }


def _grounding(stage: Stage) -> dict[str, Any] | None:
    """Return how much more rows share with their own documents than with others of their label."""
    sources = read_sources(stage.run)
    if sources is None or "documents" not in sources:
        return None
    documents = dict(zip(*(sources["documents"][name].to_pylist() for name in ("id", "text")), strict=True))
    columns = ["text", "label", "document_ids"]
    rows = pa.concat_tables(
        [pq.read_table(io.BytesIO(stage.run.read(key)), columns=columns) for key in stage.run.list("data")]
    ).to_pylist()
    texts = [row["text"] for row in rows if row["document_ids"]]
    own = [documents[row["document_ids"][0]] for row in rows if row["document_ids"]]
    labels = [stage.task.labels[row["label"]] for row in rows if row["document_ids"]]
    measured = grounding(texts, own, labels, GROUNDING_SEED)
    return asdict(measured) if measured else None


main = job("evaluate", run)

if __name__ == "__main__":
    main()
