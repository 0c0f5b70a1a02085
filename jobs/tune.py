"""Fine-tune the teacher on pairs of a prompt and a reply: rows of yours, or Incubator's two stages.

nightshift tune recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.tune recipe.yaml
"""

import json
from dataclasses import asdict

from cluster.errors import DataError, SettingsError
from cluster.rundir import read_metrics, update_metrics
from cluster.settings import digest
from jobs.job import job
from jobs.recipe import Recipe
from jobs.stage import Stage
from synth.teacher import TeacherSettings
from training.tuning.lessons import read_lessons
from training.tuning.settings import TuningSettings
from training.tuning.teacher import tune_teacher


def run(stage: Stage) -> int:
    """Tune the teacher, unless that was done already with these very rows and settings."""
    settings = asked(stage.recipe)
    if stage.recipe.incubation is not None:
        from jobs.incubation import incubate

        model = incubate(stage, stage.recipe.incubation, tune)
    elif settings.rows is not None:
        model = tune(stage, settings.name, settings.rows, None)
    else:
        raise SettingsError(
            "tune.rows: names no file; name one with prompts and replies, or add incubation, which makes rows"
        )
    key = model.removeprefix(f"{stage.run.url}/")
    report = json.loads(stage.run.read(f"{key}/manifest.json"))["report"]
    update_metrics(stage.run, tuning=report | {"teacher": key, "asked": _asked_digest(stage.recipe)})
    return 0


def asked(recipe: Recipe) -> TuningSettings:
    """Return how the teacher is tuned; SettingsError when the recipe does not ask for it."""
    if recipe.tune is None and recipe.incubation is None:
        raise SettingsError(
            "tune: the recipe does not say how; add it, for example tune: {rows: pairs.jsonl}"
        )
    return recipe.tune or TuningSettings()


def tune(stage: Stage, name: str, rows: str, base: str | None) -> str:
    """Tune a teacher into `teachers/NAME` of the run folder, and return it as `teacher.model` takes it.

    rows is a file of lessons: a path, a URL, or a key in the run folder; base is what is tuned, by default
    what the recipe says. What was tuned before on the same rows is taken as it is.
    """
    settings, key = asked(stage.recipe).model_copy(update={"name": name}), f"teachers/{name}"
    model = base or settings.base or stage.recipe.teacher.model
    stage.lease.renew(force=True)
    lessons = read_lessons(rows if "://" in rows or rows.startswith("/") else f"{stage.run.url}/{rows}")
    stage.progress.say(f"Teacher {name}: tuning {model} on {lessons.num_rows} replies")
    report = tune_teacher(lessons, model, settings, stage.run, key)
    stage.progress.event("tuned", **asdict(report))
    told = f"{report.tokens} tokens in {report.windows} windows, {report.left_out} too long"
    stage.progress.say(f"Teacher {name}: loss {report.losses[-1]:.3f} after {report.steps} steps; {told}")
    return _model(stage, key)


def _model(stage: Stage, key: str) -> str:
    """Return a folder of the run as `teacher.model` takes it, on any node."""
    # A local store is a folder that all nodes share; from an object store each node fetches the teacher.
    return f"{stage.run.url}/{key}"


def tuned_teacher(stage: Stage) -> TeacherSettings:
    """Return the teacher that writes the dataset: the tuned one when the recipe tunes one.

    DataError when it is not there, or was tuned as the recipe does not ask for any more.
    """
    if stage.recipe.tune is None and stage.recipe.incubation is None:
        return stage.recipe.teacher
    settings = asked(stage.recipe)
    if settings.lora is not None and not settings.merge:
        raise SettingsError(
            "tune.merge: false saves LoRA's matrices alone, which no teacher loads; set it to true"
        )
    done = read_metrics(stage.run).get("tuning", {})
    if done.get("asked") != _asked_digest(stage.recipe):
        state = "was tuned with other settings" if done else "is not tuned"
        raise DataError(f"{stage.run.url}/teachers: the teacher {state}; run `nightshift tune` first")
    return stage.recipe.teacher.model_copy(update={"model": _model(stage, done["teacher"])})


def writer(stage: Stage) -> tuple[TeacherSettings, str]:
    """Return the teacher that writes the dataset, as its backend runs it, and its revision."""
    teacher = tuned_teacher(stage)
    if teacher is stage.recipe.teacher:
        return teacher.resolve(), stage.plan.revision
    return teacher.resolve(), teacher.check()


def _asked_digest(recipe: Recipe) -> str:
    settings = asked(recipe)
    incubation = recipe.incubation.model_dump(mode="json") if recipe.incubation else None
    named = [settings.name, settings.base or recipe.teacher.model, settings.rows]
    return digest([settings.identity(), named, incubation])


main = job("tune", run)

if __name__ == "__main__":
    main()
