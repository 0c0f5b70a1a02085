"""Score the students on gold test rows, beside the majority class, and say how grounded the rows are.

nightshift evaluate recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.evaluate recipe.yaml
"""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.rundir import read_metrics, update_metrics
from cluster.settings import digest
from jobs.job import job
from jobs.knowledge import knowledge
from jobs.report.student_card import write_student_card
from jobs.stage import Stage
from jobs.train import History, Pupil, pupils, read_history, train, write_history
from jobs.training_rows import several_labels
from synth.metrics.grounding import grounding
from synth.preparation import read_sources
from synth.task import TaskSettings
from training.evaluate import Scores, score, score_several, spread_of
from training.predict import predict_on_cluster

GROUNDING_SEED = 0
"""Seed of the random documents that rows are compared with."""
_WATCHED = ("validation_rows", "validation_losses", "validation_accuracies", "kept_epoch")
"""What training tells of its validation split, if it had one."""


def run(stage: Stage) -> int:
    """Score every student and record the metrics; and what the recipe asks of the rows."""
    stage.lease.renew(force=True)
    answers = knowledge(stage)
    if answers:
        update_metrics(stage.run, knowledge=answers)
    if stage.recipe.students or not answers:
        _score_all(stage, list(pupils(stage)))
    stage.progress.event("evaluated")
    return 0


def _score_all(stage: Stage, found: Sequence[Pupil]) -> None:
    gold = [row.labels for row in stage.plan.test]
    majority, count = Counter(gold).most_common(1)[0]
    if "task" not in read_metrics(stage.run):
        # Students of gold rows alone need no synthesis, which would have told.
        update_metrics(stage.run, task=_task(stage.task.settings))
    update_metrics(
        stage.run,
        test={"rows": len(gold)},
        baselines={"majority": {"accuracy": count / len(gold), "label": " + ".join(majority)}},
        students={pupil.settings.name: _scores(stage, pupil) for pupil in found},
        grounding=_grounding(stage),
    )
    for pupil in found:
        write_student_card(stage.run, pupil.settings.name)


def _task(settings: TaskSettings) -> dict[str, Any]:
    told = {"name": settings.name, "instruction": settings.instruction, "text_type": settings.text_type}
    return {**told, "labels": dict(settings.labels)}


def _scores(stage: Stage, pupil: Pupil) -> dict[str, Any]:
    """Return the scores of one student on the gold test rows, and how far its runs are apart."""
    history = read_history(stage, pupil) if pupil.settings.runs > 1 else History("")
    runs = pupil.runs(history.first is not None)
    trained = [_trained(stage, key) for _, key in runs]
    scored = digest([trained, history.first, [row.id for row in stage.plan.test]])
    earlier = read_metrics(stage.run).get("students", {}).get(pupil.settings.name, {})
    if earlier.get("scored") == scored:
        return dict(earlier)
    scores = [score_on_test(stage, key) for _, key in runs]
    if len(runs) == 1:
        return _summary(stage, pupil, scores[0], trained[0], scored)
    spread = spread_of([each.accuracy for each in scores])
    limit = pupil.settings.rerun_spread
    if limit is not None and history.first is None and spread.points >= limit:
        stage.progress.say(
            f"Student {pupil.settings.name}: its runs are {spread.points:.1f} points apart, "
            f"{limit:g} are too many: all are trained anew with other seeds"
        )
        write_history(stage, pupil, History(history.asked, spread.accuracies))
        train(stage, [pupil])
        return _scores(stage, pupil)
    told = asdict(spread) | {"seeds": [settings.seed for settings, _ in runs], "first": history.first}
    return _summary(stage, pupil, scores[0], trained[0], scored) | {"runs": told}


def _trained(stage: Stage, key: str) -> dict[str, Any]:
    """Return the report of a trained student; DataError when there is none, or it has other labels."""
    if not stage.run.exists(f"{key}/manifest.json"):
        raise DataError(f"{stage.run.url}/{key}: is not trained; run `nightshift train` first")
    report: dict[str, Any] = json.loads(stage.run.read(f"{key}/manifest.json"))["report"]
    if stage.run.exists(f"{key}/metrics.json"):
        labels = json.loads(stage.run.read(f"{key}/metrics.json"))["labels"]
        if list(labels) != list(stage.task.labels):
            raise DataError(
                f"{stage.run.url}/{key}: was trained for the labels {', '.join(labels)}; the task has "
                f"{', '.join(stage.task.labels)}; run `nightshift train` again"
            )
    return report


def score_on_test(stage: Stage, key: str) -> Scores:
    """Return the scores of a saved student on the gold test rows."""
    texts = [stage.task.as_one_text(row.fields) for row in stage.plan.test]
    probabilities = predict_on_cluster(stage.run, key, texts)
    if several_labels(stage):
        return score_several([row.labels for row in stage.plan.test], probabilities, stage.task.labels)
    return score([row.label for row in stage.plan.test], probabilities, stage.task.labels)


def _summary(
    stage: Stage, pupil: Pupil, scores: Scores, trained: dict[str, Any], scored: str
) -> dict[str, Any]:
    low, high = scores.accuracy_interval
    watched = {name: trained[name] for name in _WATCHED if trained.get("validation_rows")}
    return scores.to_json() | {
        "scored": scored,
        "trained_on": pupil.trained_on,
        "sources": list(pupil.settings.rows.sources),
        "rows": trained["rows"],
        "test_rows": scores.rows,
        "base": pupil.settings.base,
        "kind": pupil.settings.kind,
        "fields": list(stage.task.settings.fields),
        "accuracy_low": low,
        "accuracy_high": high,
        "seconds": trained["seconds"],
        **watched,
    }


def _grounding(stage: Stage) -> dict[str, Any] | None:
    """Return how much more rows share with their own documents than with others of their label."""
    sources = read_sources(stage.run)
    if sources is None or "documents" not in sources:
        return None
    documents = dict(zip(*(sources["documents"][name].to_pylist() for name in ("id", "text")), strict=True))
    columns = ["text", "label", "document_ids"]
    if not stage.run.list("data"):
        return None
    rows = pa.concat_tables(
        [pq.read_table(io.BytesIO(stage.run.read(key)), columns=columns) for key in stage.run.list("data")]
    ).to_pylist()
    texts = [row["text"] for row in rows if row["document_ids"]]
    own = [documents[row["document_ids"][0]] for row in rows if row["document_ids"]]
    labels = [_first_label(stage, row["label"]) for row in rows if row["document_ids"]]
    measured = grounding(texts, own, labels, GROUNDING_SEED)
    return asdict(measured) if measured else None


def _first_label(stage: Stage, places: int | list[int]) -> str:
    """Return the label of a row by name, the first where it has several."""
    return stage.task.labels[places[0] if isinstance(places, list) else places]


main = job("evaluate", run)

if __name__ == "__main__":
    main()
