"""Incubator's two stages (2404.10877): tune a teacher on pairs, then on the most diverse of what it writes.

Everything is left under `incubation/` of the run folder, and a step that is done is not done again: pairs are
drawn alike each time, calls are answered from their ledgers, and tuned teachers are known by their rows.
"""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import SettingsError
from cluster.models import resolve_model
from cluster.rundir import update_metrics
from cluster.settings import Settings, validate
from cluster.storage import Store
from jobs.dictionaries import as_jsonl, free_form, questions
from jobs.diversifying import diverse
from jobs.inventing import Invented, inventions, rewordings
from jobs.pooled import pooled
from jobs.recipe import AnyTeacher, Recipe
from jobs.stage import Stage
from synth.method import Generate
from synth.methods.incubator import IncubatorSettings
from synth.task import Task, TaskSettings
from synth.teacher import TeacherSettings
from training.incubation.datasets import load_datasets
from training.incubation.pairs import Drawn, Pair, draw_pairs, instructions
from training.incubation.settings import DiversifySettings, IncubationSettings
from training.tuning.settings import TuningSettings

PAIRS, DIVERSE = "incubation/pairs.jsonl", "incubation/diverse.jsonl"


class Tune(Protocol):
    """Tunes a teacher, unless that was done before on the same rows, and returns it as `teacher.model`."""

    def __call__(self, stage: Stage, name: str, rows: str, base: str | None) -> str:
        """rows: key of JSON lines in the run folder; base: what is tuned, None for the recipe's own."""


class _Writer(Settings):
    teacher: AnyTeacher


@dataclass(frozen=True, slots=True)
class Collected:
    """The pairs of stage 1."""

    datasets: tuple[Task, ...]
    drawn: tuple[Drawn, ...]
    invented: Invented

    @property
    def pairs(self) -> list[Pair]:
        """All of them: dataset by dataset, then the invented ones."""
        return [*(pair for each in self.drawn for pair in each.pairs), *self.invented.pairs]

    def as_json(self) -> dict[str, Any]:
        """Return what metrics.json tells of them."""
        datasets = {
            task.settings.name: {
                "pairs": len(drawn.pairs),
                "rows": drawn.rows,
                "left_out": dict(drawn.left_out),
                "used_up": drawn.used_up,
            }
            for task, drawn in zip(self.datasets, self.drawn, strict=True)
        }
        invented = {"pairs": len(self.invented.pairs), "refused": dict(self.invented.refused)}
        return {"pairs": len(self.pairs), "datasets": datasets, "invented": invented}


def check_incubation(recipe: Recipe, settings: IncubationSettings) -> None:
    """Find and check what the two stages read, without starting anything; UserError tells what is wrong."""
    _check_form(recipe)
    for task in load_datasets(settings, Path.cwd()):
        draw_pairs(task, settings.pairs, settings.seed)
    if settings.writer is not None:
        _writer(settings.writer.teacher).check()
    if settings.diversify is not None:
        resolve_model(settings.diversify.encoder.model)


def incubate(stage: Stage, settings: IncubationSettings, tune: Tune) -> str:
    """Run both stages, and return the tuned teacher as `teacher.model` takes it.

    Errors: UserError as in `check_incubation`; RunError when a limit stops it.
    """
    method = _check_form(stage.recipe)
    collected = collect(stage, settings)
    lessons = [
        question.lesson(pair.texts) for pair in collected.pairs for question in questions(pair.task, method)
    ]
    _write(stage.run, PAIRS, as_jsonl(lessons))
    told: dict[str, Any] = {"stage1": collected.as_json()}
    stage.progress.step("incubation_pairs", f"Incubation: {len(lessons)} pairs to tune on", **told["stage1"])
    tuned = tune(stage, "stage1", PAIRS, None)
    if settings.diversify is not None:
        tasks = _tasks(stage, settings, settings.diversify, collected)
        asked = [question for task in tasks for question in questions(task, method)]
        found = diverse(stage, asked, settings.diversify, tuned, settings.seed)
        told["stage2"] = found.told
        if found.lessons:
            _write(stage.run, DIVERSE, as_jsonl(found.lessons))
            tuned = tune(stage, "stage2", DIVERSE, tuned if settings.restart == "stage1" else None)
        else:
            stage.progress.say("Incubation: too few dictionaries; the second stage is left out")
    update_metrics(stage.run, incubation=told)
    return tuned


def _check_form(recipe: Recipe) -> IncubatorSettings:
    """Return how the method asks; SettingsError unless the teacher is tuned to be asked like that."""
    method, render = free_form(recipe.method), (recipe.tune or TuningSettings()).render
    if render != method.render:
        raise SettingsError(
            f"tune.render: is {render}, and method.render is {method.render}; give both the same, so that "
            "the teacher is tuned on the prompts that it will be sent"
        )
    return method


def collect(stage: Stage, settings: IncubationSettings) -> Collected:
    """Draw the pairs of all datasets; with a writer, ask it for wordings before and for new tasks after."""
    datasets, writer = tuple(load_datasets(settings, Path.cwd())), settings.writer

    def drawn(wordings: dict[str, list[str]]) -> tuple[Drawn, ...]:
        return tuple(
            draw_pairs(task, settings.pairs, settings.seed, wordings.get(task.settings.name, ()))
            for task in datasets
        )

    if writer is None:
        return Collected(datasets, drawn({}), Invented((), {}))
    asked = writer

    async def write(generate: Generate) -> Collected:
        own = drawn(await rewordings([task.settings for task in datasets], asked, generate))
        real = [pair for each in own for pair in each.pairs]
        return Collected(datasets, own, await inventions(real, asked, settings.seed, generate))

    teacher = _writer(writer.teacher)
    return pooled(stage, "incubation/written", teacher, teacher.check(), write)


def _writer(given: dict[str, Any]) -> TeacherSettings:
    written: TeacherSettings = validate(_Writer, {"teacher": given}, "incubation.writer").teacher
    return written.resolve()


def _tasks(
    stage: Stage, settings: IncubationSettings, diversify: DiversifySettings, collected: Collected
) -> list[TaskSettings]:
    """Return the tasks that dictionaries are sampled of."""
    own = [stage.task.settings] if diversify.own_task else []
    each = zip(collected.datasets, collected.drawn, strict=True)
    found = (instructions(task, drawn, settings.pairs.labels) for task, drawn in each)
    return [*own, *(asked for tasks in found for asked in islice(tasks, diversify.instructions))]


def _write(store: Store, key: str, data: bytes) -> None:
    """Put an object unless the same is there, so that its time tells when it last changed."""
    if not (store.exists(key) and store.read(key) == data):
        store.write(key, data)
