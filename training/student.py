"""Fine-tuning a student: what is trained already is taken as it is, and what was begun is gone on with."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa

from cluster.errors import DataError, ModelError
from cluster.models import resolve_model
from cluster.settings import digest
from cluster.storage import Store
from training.checks import checked_rows, rows_digest, several_labels
from training.launch import Launch, launch, scratch_of
from training.records import StudentReport, TrainingJob, Wording
from training.settings import StudentSettings


def train_student(
    rows: pa.Table,
    labels: Sequence[str],
    settings: StudentSettings,
    store: Store,
    key: str,
    wording: Wording | None = None,
    together: int = 1,
) -> StudentReport:
    """Fine-tune a classifier on rows and leave it in the folder `key` of the store.

    rows has the columns text and label, and perhaps id and weight (see `checked_rows`); labels is the task's
    order; a causal student reads the task in the words of `wording`. The folder is
    in `save_pretrained` layout, with `metrics.json`, `dynamics.parquet` (per row and epoch: probability of
    the row's label, correctness) and, written last, `manifest.json`: when that tells of the same rows,
    settings, labels and base revision, the student is taken as it is. `together` trainings at a time share
    the cluster. Needs a Ray session.
    Errors: DataError, ModelError, RunError.
    """
    table = checked_rows(rows, labels, settings.name)
    base, revision = _resolved(settings)
    if settings.kind == "causal" and several_labels(table):
        raise DataError(f"student {settings.name}: rows with several labels need kind: encoder; set it")
    identity = [rows_digest(table), list(labels), settings.identity(), revision]
    if settings.kind == "causal" and wording is not None:
        identity.append(asdict(wording))
    fingerprint = digest(identity)
    done = _finished(store, key, fingerprint)
    if done is not None:
        return replace(done, name=settings.name, reused=True)
    job = TrainingJob(
        labels=tuple(labels),
        settings=settings,
        base=base,
        revision=revision,
        store=store,
        key=key,
        fingerprint=fingerprint,
        wording=wording,
    )
    report = _train(job, table, together)
    manifest = {"fingerprint": fingerprint, "report": asdict(report)}
    store.write(f"{key}/manifest.json", json.dumps(manifest, indent=1).encode())
    store.delete(scratch_of(key))
    return report


def _resolved(settings: StudentSettings) -> tuple[str, str]:
    found = resolve_model(settings.base)
    if found.gguf_file and settings.kind == "encoder":
        raise ModelError(f"model {settings.base}: a student cannot start from GGUF weights; name an encoder")
    # Workers run in a folder of their own, and on nodes whose packages may lie elsewhere.
    portable = isinstance(found.path, str) or settings.base.startswith("package:")
    local = Path(found.path, found.gguf_file or "")
    return settings.base if portable else str(local), found.revision


def _finished(store: Store, key: str, fingerprint: str) -> StudentReport | None:
    if not store.exists(f"{key}/manifest.json"):
        return None
    manifest = json.loads(store.read(f"{key}/manifest.json"))
    if manifest["fingerprint"] != fingerprint:
        return None
    report = manifest["report"]
    several = ("losses", "validation_losses", "validation_accuracies")
    return StudentReport(**report | {name: tuple(report[name]) for name in several})


def _train(job: TrainingJob, table: pa.Table, together: int) -> StudentReport:
    from training.placement import placement
    from training.tokenising import prepared
    from training.worker import work

    run = Launch(f"student {job.settings.name}", job.store, scratch_of(job.key), job.fingerprint)
    run.begin()
    place = placement(job.settings.workers, job.settings.batch_size, together)
    job = replace(prepared(job, table, job.store.within(run.scratch)), cpus=place.cpus)
    report: StudentReport = launch(work, {"job": job}, place, run)
    return report
