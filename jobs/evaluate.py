"""Score the students on gold test rows, beside the majority class, and measure the dataset.

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
from jobs.documents import document_tables, read_documents
from jobs.job import job
from jobs.knowledge import knowledge
from jobs.outside import take_in
from jobs.quality import quality
from jobs.report.student_card import write_student_card
from jobs.stage import Stage
from jobs.train import History, Pupil, pupils, read_history, train, write_history
from jobs.training_rows import dataset_rows, has_dataset, several_labels
from retrieval.tables import write_table
from synth.metrics.grounding import grounding
from synth.task import TaskSettings
from training.evaluate import Scores, score, score_several, spread_of, test_predictions
from training.predict import predict_on_cluster

GROUNDING_SEED = 0
"""Seed of the random documents that rows are compared with."""
_WATCHED = ("validation_rows", "validation_losses", "validation_accuracies", "kept_epoch")
"""What training tells of its validation split, if it had one."""


def run(stage: Stage) -> int:
    """Score every student and record the metrics; and what the recipe asks of the rows."""
    stage.lease.renew(force=True)
    if stage.recipe.dataset is not None:
        take_in(stage, stage.recipe.dataset)
    if answers := knowledge(stage):
        update_metrics(stage.run, knowledge=answers)
    if stage.recipe.students:
        _score_all(stage, list(pupils(stage)))
    elif stage.plan.test:
        update_metrics(stage.run, **_baselines(stage))
    if has_dataset(stage):
        update_metrics(stage.run, grounding=_grounding(stage), quality=quality(stage))
    elif not stage.recipe.students:
        dataset_rows(stage)
    stage.progress.event("evaluated")
    return 0


def _score_all(stage: Stage, found: Sequence[Pupil]) -> None:
    if "task" not in read_metrics(stage.run):
        # Students of gold rows alone need no synthesis, which would have told.
        update_metrics(stage.run, task=_task(stage.task.settings))
    update_metrics(
        stage.run,
        students={pupil.settings.name: _scores(stage, pupil) for pupil in found},
        **_baselines(stage),
    )
    for pupil in found:
        write_student_card(stage.run, pupil.settings.name)


def _baselines(stage: Stage) -> dict[str, Any]:
    """Return how many gold test rows there are, and how well always saying one label would do."""
    gold = [row.labels for row in stage.plan.test]
    majority, count = Counter(gold).most_common(1)[0]
    accuracy = {"accuracy": count / len(gold), "label": " + ".join(majority)}
    return {"test": {"rows": len(gold)}, "baselines": {"majority": accuracy}}


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
    if earlier.get("scored") == scored and all(stage.run.exists(predictions_of(key)) for _, key in runs):
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
    """Return the scores of a saved student on the gold test rows, and keep what it said of each of them."""
    texts = [stage.task.as_one_text(row.fields) for row in stage.plan.test]
    probabilities = predict_on_cluster(stage.run, key, texts)
    several, gold = several_labels(stage), [row.labels for row in stage.plan.test]
    if several:
        scores = score_several(gold, probabilities, stage.task.labels)
    else:
        scores = score([labels[0] for labels in gold], probabilities, stage.task.labels)
    ids = [row.id for row in stage.plan.test]
    write_table(
        stage.run, predictions_of(key), test_predictions(ids, gold, probabilities, stage.task.labels, several)
    )
    return scores


def predictions_of(key: str) -> str:
    """Return where a student's answers to the gold test rows are, as `test_predictions` gives them."""
    return f"{key}/test.parquet"


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
    if not document_tables(stage.run):
        return None
    columns = ["text", "label", "document_ids"]
    rows = pa.concat_tables(
        [pq.read_table(io.BytesIO(stage.run.read(key)), columns=columns) for key in stage.run.list("data")]
    ).to_pylist()
    rows = [row for row in rows if row["document_ids"]]
    own = [row["document_ids"][0] for row in rows]
    documents = read_documents(stage.run, set(own))
    texts, labels = [row["text"] for row in rows], [_first_label(stage, row["label"]) for row in rows]
    measured = grounding(texts, [documents[id]["text"] for id in own], labels, GROUNDING_SEED)
    return asdict(measured) if measured else None


def _first_label(stage: Stage, places: int | list[int]) -> str:
    """Return the label of a row by name, the first where it has several."""
    return stage.task.labels[places[0] if isinstance(places, list) else places]


main = job("evaluate", run)

if __name__ == "__main__":
    main()
