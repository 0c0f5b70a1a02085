"""Fine-tuning a student under Ray Train, so that a lost worker or driver costs a checkpoint interval."""

import json
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cluster.errors import ModelError, NightshiftError, RunError
from cluster.models import resolve_model
from cluster.settings import digest
from cluster.storage import Store, arrow_place
from training.dataset import checked_rows, rows_digest
from training.records import StudentReport, TrainingJob
from training.settings import StudentSettings

if TYPE_CHECKING:
    from training.placement import Placement

_MAX_FAILURES = 3


def train_student(
    rows: pa.Table, labels: Sequence[str], settings: StudentSettings, store: Store, key: str
) -> StudentReport:
    """Fine-tune a classifier on rows and leave it in the folder `key` of the store.

    rows has the string columns text and label, and optionally id; labels is the task's order. The folder is
    in `save_pretrained` layout, with `metrics.json`, `dynamics.parquet` (per row and epoch: probability of
    the row's label, correctness) and, written last, `manifest.json`: when that tells of the same rows,
    settings, labels and base revision, the student is taken as it is. Needs a Ray session.
    Errors: DataError, ModelError, RunError.
    """
    table = checked_rows(rows, labels, settings.name)
    base, revision = _resolved(settings)
    identity = [rows_digest(table), list(labels), settings.identity(), revision]
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
    )
    report = _train(job, table)
    manifest = {"fingerprint": fingerprint, "report": asdict(report)}
    store.write(f"{key}/manifest.json", json.dumps(manifest, indent=1).encode())
    store.delete(_scratch(key))
    return report


def _resolved(settings: StudentSettings) -> tuple[str, str]:
    found = resolve_model(settings.base)
    if found.gguf_file:
        raise ModelError(f"model {settings.base}: a student cannot start from GGUF weights; name an encoder")
    # Workers run in a folder of their own, and on nodes whose packages may lie elsewhere.
    portable = isinstance(found.path, str) or settings.base.startswith("package:")
    return settings.base if portable else str(found.path), found.revision


def _finished(store: Store, key: str, fingerprint: str) -> StudentReport | None:
    if not store.exists(f"{key}/manifest.json"):
        return None
    manifest = json.loads(store.read(f"{key}/manifest.json"))
    if manifest["fingerprint"] != fingerprint:
        return None
    report = manifest["report"]
    return StudentReport(**report | {"losses": tuple(report["losses"])})


def _scratch(key: str) -> str:
    folder, _, name = key.rpartition("/")
    return f"{folder}/.{name}-training".lstrip("/")


def _trainer(job: TrainingJob, place: "Placement") -> Any:
    """Return the Ray Train trainer of a job; its name finds the checkpoints of a driver that died."""
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from training.worker import work

    filesystem, path = arrow_place(job.store.within(_scratch(job.key)))
    return TorchTrainer(
        work,
        train_loop_config={"job": job},
        scaling_config=ScalingConfig(
            num_workers=place.workers,
            use_gpu=place.gpus > 0,
            resources_per_worker={"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {}),
        ),
        run_config=RunConfig(
            name=job.fingerprint,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _train(job: TrainingJob, table: pa.Table) -> StudentReport:
    import ray
    from ray.train import TrainingFailedError

    from training.placement import placement

    if not job.store.exists(f"{_scratch(job.key)}/{job.fingerprint}"):
        job.store.delete(_scratch(job.key))
    # Students of a demo train for seconds: the default of two seconds between polls would be felt.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    place = placement(job.settings.workers, job.settings.batch_size)
    job = replace(job, rows=ray.put(table), cpus=place.cpus)
    name = job.settings.name
    try:
        with _own_interrupts():
            outcome = _trainer(job, place).fit().return_value
    except TrainingFailedError as error:
        raise RunError(f"student {name}: training failed: {_cause(error)}") from error
    if isinstance(outcome, NightshiftError):
        raise outcome
    if not isinstance(outcome, StudentReport):
        raise RunError(f"student {name}: training ended without a report")
    return outcome


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to its former handler, which Ray Train replaces and never restores."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
