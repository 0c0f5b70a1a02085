"""Tuning a teacher under Ray Train, so that a lost worker or driver costs a checkpoint interval."""

import json
from dataclasses import asdict, replace

import pyarrow as pa

from cluster.errors import DataError, NightshiftError
from cluster.models import known_everywhere, resolve_model
from cluster.settings import digest
from cluster.storage import Store
from training.checks import rows_digest
from training.launch import Launch, launch, scratch_of
from training.tuning.records import TuningJob, TuningReport
from training.tuning.rendering import Renderer, TokenisedLessons, joined
from training.tuning.settings import TuningSettings

_TASK_ROWS = 8192


def tune_teacher(
    lessons: pa.Table, base: str, settings: TuningSettings, store: Store, key: str
) -> TuningReport:
    """Fine-tune a causal language model on lessons (`lessons.SCHEMA`) and leave it in a folder of the store.

    The folder, `key`, is in `save_pretrained` layout, as transformers and vLLM load it and `teacher.model`
    takes it, with `metrics.json` and, written last, `manifest.json`: when that tells of the same lessons,
    settings and base revision, the teacher is taken as it is. Needs a Ray session.
    Errors: DataError, ModelError, RunError.
    """
    revision = resolve_model(base).revision
    fingerprint = digest([rows_digest(lessons.select(["messages"])), settings.identity(), revision])
    done = _finished(store, key, fingerprint)
    if done is not None:
        return replace(done, name=settings.name, reused=True)
    base = known_everywhere(base)
    job = TuningJob(settings, base, revision, store, key, fingerprint)
    report = _tune(job, tokenised(lessons, base, settings))
    manifest = {"fingerprint": fingerprint, "report": asdict(report)}
    store.write(f"{key}/manifest.json", json.dumps(manifest, indent=1).encode())
    store.delete(scratch_of(key))
    return report


def _finished(store: Store, key: str, fingerprint: str) -> TuningReport | None:
    if not store.exists(f"{key}/manifest.json"):
        return None
    manifest = json.loads(store.read(f"{key}/manifest.json"))
    if manifest["fingerprint"] != fingerprint:
        return None
    report = manifest["report"]
    return TuningReport(**report | {"losses": tuple(report["losses"])})


def _tune(job: TuningJob, lessons: TokenisedLessons) -> TuningReport:
    import ray

    from training.placement import placement
    from training.tuning.worker import work

    settings = job.settings
    # A worker is worth its while with a single window, which is as long as many rows of a student.
    place = placement(settings.workers, 4 * settings.batch_size)
    run = Launch(f"teacher {settings.name}", job.store, scratch_of(job.key), job.fingerprint)
    run.begin()
    job = replace(job, lessons=ray.put(lessons), cpus=place.cpus)
    report: TuningReport = launch(work, {"job": job}, place, run)
    return report


def tokenised(lessons: pa.Table, base: str, settings: TuningSettings) -> TokenisedLessons:
    """Tokenise lessons on the cluster, some thousand in a task; DataError when none is short enough."""
    import ray

    task = ray.remote(_tokenised_there).options(num_cpus=1)
    parts = [lessons.slice(start, _TASK_ROWS) for start in range(0, lessons.num_rows, _TASK_ROWS)]
    found: list[TokenisedLessons] = []
    for part in ray.get([task.remote(part, base, settings) for part in parts]):
        if isinstance(part, NightshiftError):
            raise part
        found.append(part)
    whole = joined(found)
    if not len(whole):
        raise DataError(
            f"teacher {settings.name}: all {whole.left_out} rows have more than {settings.max_tokens} "
            "tokens; raise tune.max_tokens"
        )
    return whole


def _tokenised_there(
    lessons: pa.Table, base: str, settings: TuningSettings
) -> TokenisedLessons | NightshiftError:
    from training.tuning.model import base_tokenizer

    try:
        renderer = Renderer(base_tokenizer(base), settings.render, base)
        rows, places = (lessons[name].to_pylist() for name in ("messages", "place"))
        return renderer.tokenise(rows, places, settings.max_tokens)
    except NightshiftError as error:
        # Raised here, it would come with Ray's traceback as its message.
        return error
