"""The Ray Train worker of a student: loads, resumes, trains, keeps checkpoints, and saves."""

import json
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch

from cluster.errors import NightshiftError
from training.checkpoints import Checkpoints, resume, worker_place
from training.checks import several_labels, targets_of, weights_of
from training.dataset import TrainingRows
from training.held_out import held_out
from training.learner import Learner, new_learner
from training.loop import fit
from training.records import StudentReport, TrainingJob
from training.state import Training
from training.strategy import Place
from training.tokenising import texts_of


def work(config: dict[str, Any]) -> StudentReport | NightshiftError | None:
    """Train on one worker; rank 0 saves the student and returns the report."""
    job: TrainingJob = config["job"]
    place = worker_place()
    if place.device.type == "cpu":
        torch.set_num_threads(job.cpus)
    started = time.monotonic()
    table: pa.Table = ray.get(job.rows)
    try:
        learner = new_learner(job, several_labels(table))
        training = _training(job, table, learner, place)
        resumed_after = resume(training)
        fit(training, Checkpoints(job.settings.checkpoint_seconds))
        weights = training.weights()
    except NightshiftError as error:
        # A model that cannot be used, a loss that is not finite: the same on every worker, at every attempt.
        return error
    if weights is None:
        return None
    report = _report(job, training, resumed_after, time.monotonic() - started)
    _save(job, replace(learner, model=assembled(learner.model, weights)), table, training, report)
    return report


def _training(job: TrainingJob, table: pa.Table, learner: Learner, place: Place) -> Training:
    settings = job.settings
    targets = targets_of(table, job.labels)
    return Training(
        learner.model,
        TrainingRows(texts_of(job, table, learner.reader), targets, weights_of(table)),
        settings,
        place,
        learner.objective,
        name=f"student {settings.name}",
        held=held_out(targets, settings.validation, settings.seed),
        fingerprint=job.fingerprint,
    )


def assembled(model: Any, weights: dict[str, torch.Tensor]) -> Any:
    """Return the model with these weights, on the CPU; one that ZeRO-3 has divided is built anew."""
    divided = any(hasattr(weight, "ds_id") for weight in model.parameters())
    whole = type(model)(model.config) if divided else model.cpu()
    whole.load_state_dict(weights)
    return whole


def _report(job: TrainingJob, training: Training, resumed_after: int, seconds: float) -> StudentReport:
    history, settings = training.history, job.settings
    kept = history.best if settings.keep == "best" else history.epochs - 1
    return StudentReport(
        name=settings.name,
        fingerprint=job.fingerprint,
        base=settings.base,
        revision=job.revision,
        rows=len(training.trained),
        steps=training.steps_done,
        workers=training.place.world,
        losses=tuple(history.losses),
        train_accuracy=float(history.correct[kept].float().mean()),
        seconds=round(seconds, 2),
        resumed_after=resumed_after,
        strategy=training.strategy.name,
        kept_epoch=kept + 1,
        validation_rows=len(training.held),
        validation_losses=tuple(history.validation_losses),
        validation_accuracies=tuple(history.validation_accuracies),
    )


def _save(
    job: TrainingJob, learner: Learner, table: pa.Table, training: Training, report: StudentReport
) -> None:
    """Leave a trained student in the store."""
    with tempfile.TemporaryDirectory() as folder:
        learner.save(Path(folder))
        pq.write_table(_dynamics(table, training), Path(folder, "dynamics.parquet"))
        settings = job.settings.model_dump(mode="json")
        metrics = asdict(report) | {"settings": settings, "labels": job.labels}
        Path(folder, "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        # An object store takes a folder file by file: what vouches for an earlier student goes before it.
        job.store.delete(f"{job.key}/manifest.json")
        job.store.upload(job.key, Path(folder))


def _dynamics(table: pa.Table, training: Training) -> pa.Table:
    """Return one row per trained row and epoch: id, label, epoch (from 1), probability, correct."""
    history = training.history
    trained = table.select(["id", "label"]).take(training.trained)
    epochs = [
        trained.append_column("epoch", pa.array([epoch] * len(trained), pa.int32()))
        .append_column("probability", pa.array(probability.numpy(), pa.float32()))
        .append_column("correct", pa.array(correct.numpy(), pa.bool_()))
        for epoch, (probability, correct) in enumerate(
            zip(history.probabilities, history.correct, strict=True), 1
        )
    ]
    return pa.concat_tables(epochs)
