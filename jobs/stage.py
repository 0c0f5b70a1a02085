"""What every job works with: the checked recipe, the task, the store, the run folder and its lease."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster.errors import DataError, SettingsError
from cluster.lease import Lease
from cluster.progress import Progress
from cluster.rundir import owned, read_run, record_run
from cluster.session import check_shared, connected, in_job
from cluster.storage import Store, open_store
from jobs.outside_settings import check_dataset
from jobs.recipe import Recipe
from synth.method import Lesson
from synth.task import Gold, Task, load_task, load_test, load_train
from training.settings import StudentSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe whose inputs were found and checked; nothing has been started or written."""

    recipe: Recipe
    task: Task
    test: tuple[Gold, ...]
    revision: str
    """Revision of the teacher; empty for verbs that need none."""
    judge_revision: str = ""
    """Revision of the judge's own teacher, if it has one."""
    train: tuple[Gold, ...] = ()
    """Gold training rows, for students and judges; no teacher sees them."""


@dataclass(frozen=True, slots=True)
class View:
    """A plan and the store it works in."""

    plan: Plan
    root: Store
    progress: Progress

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.plan.recipe

    @property
    def task(self) -> Task:
        """The task."""
        return self.plan.task


@dataclass(frozen=True, slots=True)
class Stage(View):
    """A plan under way, in a run folder that this process owns."""

    run: Store
    lease: Lease


def check(recipe: Recipe, teacher: bool = True) -> Plan:
    """Find and check every input of a recipe without starting anything; UserError names what is wrong.

    Only verbs that write rows need the teacher, which may be installed on the cluster alone.
    """
    from cluster.models import resolve_model
    from retrieval.reading.work import check_corpus
    from training.export import check_exporter

    task = load_task(recipe.task, Path.cwd())
    if recipe.method.wants_seeds() and not task.seeds:
        raise SettingsError(f"task.seeds: names no file; method {recipe.method.name} needs gold seeds")
    for student in recipe.students:
        check_sources(student, bool(task.seeds), task.settings.train is not None)
        if student.onnx and teacher:
            check_exporter(student.name)
    recipe.method.build(task)
    if teacher and recipe.teacher.backend == "none":
        _check_unasked(recipe)
    if teacher and (lacking := recipe.method.needs() - recipe.teacher.resolve().abilities):
        raise SettingsError(
            f"teacher.backend: {recipe.teacher.resolve().backend} cannot do what method {recipe.method.name} "
            f"asks for with these settings: {', '.join(sorted(lacking))}; take another backend or turn it off"
        )
    _check_rounds(recipe, task)
    test = tuple(load_test(task)) if recipe.students or task.settings.test else ()
    train = tuple(load_train(task))
    if recipe.dataset is not None:
        check_dataset(recipe.dataset, task.settings)
    if recipe.corpus is not None:
        check_corpus(recipe.corpus)
    if recipe.index is not None and recipe.index.encoder is not None:
        resolve_model(recipe.index.encoder.model)
    if recipe.curation.semantic is not None:
        resolve_model(recipe.curation.semantic.encoder.model)
    if recipe.metrics is not None and recipe.metrics.encoder is not None:
        resolve_model(recipe.metrics.encoder.model)
    for student in (*recipe.students, *_examiners(recipe)):
        resolve_model(student.base)
    plan = Plan(recipe, task, test, "", train=train)
    _check_looked_at(plan)
    if not teacher:
        return plan
    _check_tuning(recipe)
    judge = recipe.judge.teacher if recipe.judge else None
    return replace(plan, revision=recipe.teacher.check(), judge_revision=judge.check() if judge else "")


def _check_unasked(recipe: Recipe) -> None:
    """Refuse the teacher that is none where one is asked."""
    judged = recipe.judge is not None and recipe.judge.teacher is None
    tuned = recipe.tune is not None or recipe.incubation is not None
    asks = {f"method {recipe.method.name}": recipe.method.asks_teacher, "judge": judged, "tune": tuned}
    if asking := [name for name, asked in asks.items() if asked]:
        raise SettingsError(f"teacher.backend: none writes nothing, and {asking[0]} asks a teacher; name one")


def _check_rounds(recipe: Recipe, task: Task) -> None:
    """Check what students need between the rounds of a method."""
    from cluster.models import resolve_model

    feedback = recipe.feedback
    lessons = _lessons(recipe, task)
    if student_asked(lessons, task):
        resolve_model(feedback.student.base)
    if feedback.refills or "cartography" in lessons:
        resolve_model(feedback.cartography.student.base)


def _lessons(recipe: Recipe, task: Task) -> set[Lesson]:
    """Return what the method's rounds are planned from."""
    rounds = recipe.method.rounds(recipe.targets.quotas(task.labels))
    return {lesson for round in rounds for lesson in round.lessons}


def looked_at(plan: Plan) -> list[Gold]:
    """Return the gold rows whose errors a method may look at: never one of the gold test rows."""
    tested = {row.id for row in plan.test}
    rows = plan.task.seeds if plan.recipe.method.looks_at() == "seeds" else plan.train
    return [row for row in rows if row.id not in tested]


def _check_looked_at(plan: Plan) -> None:
    """Refuse a method that follows errors where there is no row to make one in, before any is written."""
    if "errors" in _lessons(plan.recipe, plan.task) and not looked_at(plan):
        what = f"task.{plan.recipe.method.looks_at()}"
        raise DataError(f"{what}: holds no rows to look for errors in that are not test rows; name some")


def student_asked(lessons: Collection[Lesson], task: Task) -> bool:
    """Say whether lessons are learned from the feedback's student, or its accuracy is told beside them."""
    told = task.settings.test is not None and "weights" in lessons
    return told or not {"errors", "influence", "agreement"}.isdisjoint(lessons)


def _check_tuning(recipe: Recipe) -> None:
    """Find what the teacher is to be tuned on, and from."""
    from cluster.models import resolve_model
    from jobs.incubation import check_incubation
    from training.tuning.lessons import check_readable

    if recipe.tune is not None and recipe.tune.base is not None:
        resolve_model(recipe.tune.base)
    if recipe.tune is not None and recipe.tune.rows is not None:
        check_readable(recipe.tune.rows)
    if recipe.incubation is not None:
        check_incubation(recipe, recipe.incubation)


def check_sources(student: StudentSettings, seeds: bool, gold: bool) -> None:
    """Refuse a student that learns from gold rows which the task does not have."""
    for source, there, key in (("seeds", seeds, "task.seeds"), ("gold", gold, "task.train")):
        if source in student.rows.sources and not there:
            raise SettingsError(
                f"students: {student.name}: rows takes {source}; name them in {key} or leave them out"
            )


def _examiners(recipe: Recipe) -> list[StudentSettings]:
    """Return what is trained to look at the rows rather than to be kept."""
    found = (recipe.cartography, recipe.oracle, recipe.information)
    return [settings.student for settings in found if settings is not None]


@contextmanager
def opened(plan: Plan, address: str | None) -> Iterator[Stage]:
    """Own the run folder and hold a connection to Ray for as long as the block lasts."""
    root = store_of(plan.recipe.store)
    run = root.within(plan.recipe.run)
    with owned(run) as lease:
        progress = Progress(run)
        if not read_run(run):
            record_run(run, plan.recipe.run, plan.recipe.model_dump(mode="json"))
        progress.event("started", epoch=lease.epoch)
        with connected(address):
            check_shared(root)
            try:
                yield Stage(plan, root, progress, run, lease)
            except BaseException as error:
                progress.event("failed", reason=f"{type(error).__name__}: {error}"[:500])
                raise
        progress.event("ended")


@contextmanager
def looking(plan: Plan, address: str | None) -> Iterator[View]:
    """Hold a connection to Ray for as long as the block lasts, and leave the run folder alone."""
    root = store_of(plan.recipe.store)
    with connected(address):
        check_shared(root)
        yield View(plan, root, Progress(None))


def store_of(url: str) -> Store:
    """Return the store that a recipe names."""
    # A job's working directory is a copy that goes with the job: what is kept has to lie elsewhere.
    return open_store(url, Path.home() if in_job() else Path.cwd())
