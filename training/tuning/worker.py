"""The Ray Train worker of a teacher: loads, resumes, trains, keeps checkpoints, and saves."""

import json
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch

from cluster.errors import ModelError, NightshiftError
from training.checkpoints import Checkpoints, resume, worker_place
from training.dataset import Indices
from training.loop import fit
from training.state import Training
from training.strategy import Place, zero_stage
from training.tuning.model import base_tokenizer, new_teacher, save_teacher
from training.tuning.objective import Replies
from training.tuning.packing import Windows, windows
from training.tuning.records import TuningJob, TuningReport
from training.tuning.rendering import TokenisedLessons
from training.tuning.settings import TuningSettings
from training.zero import partitioned


def work(config: dict[str, Any]) -> TuningReport | NightshiftError | None:
    """Train on one worker; rank 0 saves the teacher and returns the report."""
    job: TuningJob = config["job"]
    place, started = worker_place(), time.monotonic()
    if place.device.type == "cpu":
        torch.set_num_threads(job.cpus)
    lessons: TokenisedLessons = ray.get(job.lessons)
    settings = job.settings
    try:
        tokenizer = base_tokenizer(job.base)
        found = windows(lessons, settings.max_tokens, settings.packing, settings.seed, tokenizer.pad_token_id)
        done = _trained(job, found, place)
    except NightshiftError as error:
        # A model that cannot be used, a loss that is not finite: the same on every worker, at every attempt.
        return error
    if done.weights is None:
        return None
    report = TuningReport(
        name=settings.name,
        fingerprint=job.fingerprint,
        base=job.base,
        base_revision=job.revision,
        lessons=len(lessons),
        left_out=lessons.left_out,
        windows=len(found),
        tokens=int(lessons.lengths().sum()),
        reply_tokens=int(lessons.reply_tokens().sum()),
        steps=done.steps,
        workers=place.world,
        losses=done.losses,
        seconds=round(time.monotonic() - started, 2),
        resumed_after=done.resumed_after,
    )
    with tempfile.TemporaryDirectory() as folder:
        save_teacher(done.weights, job.base, settings, tokenizer, int(lessons.tokens[-1]), Path(folder))
        metrics = asdict(report) | {"settings": settings.model_dump(mode="json")}
        Path(folder, "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
        # An object store takes a folder file by file: what vouches for an earlier teacher goes before it.
        job.store.delete(f"{job.key}/manifest.json")
        job.store.upload(job.key, Path(folder))
    return report


@dataclass(frozen=True, slots=True)
class _Trained:
    weights: dict[str, torch.Tensor] | None
    """On rank 0; the training itself, with what it holds of the device's memory, is gone."""
    steps: int
    resumed_after: int
    losses: tuple[float, ...]


def _trained(job: TuningJob, found: Windows, place: Place) -> _Trained:
    training = begin(job.base, found, job.settings, place, job.fingerprint)
    resumed_after = resume(training)
    history = fit(training, Checkpoints(job.settings.checkpoint_seconds))
    return _Trained(training.weights(), training.steps_done, resumed_after, tuple(history.losses))


def begin(
    base: str, found: Windows, settings: TuningSettings, place: Place, fingerprint: str = ""
) -> Training:
    """Return the training of a teacher before its first step; ModelError when the model is of no use."""
    settings = _divided(settings, place)
    with partitioned(settings, place):
        model = new_teacher(base, settings, gpu=place.device.type == "cuda")
    longest, most = int(found.lessons.lengths().max()), getattr(model.config, "max_position_embeddings", None)
    if most is not None and longest > most:
        raise ModelError(f"tune.max_tokens: {base} reads {most} tokens at most; a row has {longest}")
    taught = Replies(found, model)
    training = Training(
        model,
        taught.rows(),
        settings,
        place,
        taught,
        name=f"teacher {settings.name}",
        held=_held(len(found), settings),
        dynamics=False,
        fingerprint=fingerprint,
    )
    taught.check_apart(training.model, training.strategy.module, place.device)
    return training


def _divided(settings: TuningSettings, place: Place) -> TuningSettings:
    """Return settings that leave LoRA's frozen weights whole, unless they say otherwise."""
    if settings.lora is None or settings.zero is not None or settings.offload == "all":
        return settings
    # Frozen weights have no gradients and no optimiser state; gathering them in each step would cost more
    # than ZeRO-3 saves.
    return settings.model_copy(update={"zero": 1}) if zero_stage(settings, place) == 3 else settings


def _held(count: int, settings: TuningSettings) -> Indices:
    """Return the windows held out to watch the loss on, drawn by seed; one at least stays to learn from."""
    held = min(round(settings.validation * count), count - 1)
    return np.sort(np.random.default_rng(settings.seed).permutation(count)[:held])
