"""The Ray Train worker of a student: loads, resumes, trains, keeps checkpoints, and saves."""

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from cluster.errors import NightshiftError
from training.classifier import new_classifier, save_classifier
from training.dataset import TrainingRows, label_ids, tokenise
from training.loop import History, Place, Training, fit
from training.records import StudentReport, TrainingJob

_STATE = "training.pt"


def work(config: dict[str, Any]) -> StudentReport | NightshiftError | None:
    """Train on one worker; rank 0 saves the student and returns the report."""
    job: TrainingJob = config["job"]
    context = ray.train.get_context()
    place = Place(ray.train.torch.get_device(), context.get_world_rank(), context.get_world_size())
    if place.device.type == "cpu":
        torch.set_num_threads(job.cpus)
    started = time.monotonic()
    table: pa.Table = ray.get(job.rows)
    settings = job.settings
    try:
        model, tokenizer = new_classifier(job.base, job.labels, settings.dropout, settings.seed)
        texts = tokenise(table["text"].to_pylist(), tokenizer, settings.max_tokens)
        training = Training(model, TrainingRows(texts, label_ids(table, job.labels)), settings, place)
        resumed_after = _resume(training)
        history = fit(training, _Checkpoints(settings.checkpoint_seconds))
    except NightshiftError as error:
        # A model that cannot be used, a loss that is not finite: the same on every worker, at every attempt.
        return error
    if place.rank:
        return None
    report = StudentReport(
        name=settings.name,
        fingerprint=job.fingerprint,
        base=settings.base,
        revision=job.revision,
        rows=len(table),
        steps=training.steps_per_epoch * settings.epochs,
        workers=place.world,
        losses=tuple(history.losses),
        train_accuracy=float(history.correct[-1].float().mean()),
        seconds=round(time.monotonic() - started, 2),
        resumed_after=resumed_after,
    )
    with tempfile.TemporaryDirectory() as folder:
        save_classifier(model, tokenizer, settings.max_tokens, Path(folder))
        pq.write_table(_dynamics(table, history), Path(folder, "dynamics.parquet"))
        metrics = asdict(report) | {"settings": settings.model_dump(mode="json"), "labels": job.labels}
        Path(folder, "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        # An object store takes a folder file by file: what vouches for an earlier student goes before it.
        job.store.delete(f"{job.key}/manifest.json")
        job.store.upload(job.key, Path(folder))
    return report


def _resume(training: Training) -> int:
    """Load the newest checkpoint, if there is one, and return the number of epochs it had done."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            path = Path(folder, _STATE)
            training.resume(torch.load(path, map_location=training.place.device, weights_only=True))
    return training.history.epochs


class _Checkpoints:
    """Hands a checkpoint to Ray Train after an epoch, when the last one is old enough."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.saved = time.monotonic()

    def __call__(self, training: Training) -> None:
        history, place = training.history, training.place
        if history.epochs == training.settings.epochs or not self._due(place):
            return
        self.saved = time.monotonic()
        metrics = {"epoch": history.epochs, "loss": history.losses[-1]}
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = None
            if place.rank == 0:
                torch.save(training.state(), Path(folder, _STATE))
                checkpoint = ray.train.Checkpoint.from_directory(folder)
            ray.train.report(metrics, checkpoint=checkpoint)

    def _due(self, place: Place) -> bool:
        due = torch.tensor(float(time.monotonic() - self.saved >= self.seconds), device=place.device)
        if place.world > 1:
            # Reporting is a barrier: all workers follow the clock of the first.
            dist.broadcast(due, src=0)
        return bool(due)


def _dynamics(table: pa.Table, history: History) -> pa.Table:
    """Return one row per training row and epoch: id, label, epoch (from 1), probability, correct."""
    epochs = [
        pa.table(
            {
                "id": table["id"],
                "label": table["label"],
                "epoch": pa.array([epoch] * len(table), pa.int32()),
                "probability": pa.array(probability.numpy(), pa.float32()),
                "correct": pa.array(correct.numpy(), pa.bool_()),
            }
        )
        for epoch, (probability, correct) in enumerate(
            zip(history.probabilities, history.correct, strict=True), 1
        )
    ]
    return pa.concat_tables(epochs)
