"""Fine-tune the students, and the first of them on the seeds alone as a baseline.

nightshift train recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.train recipe.yaml
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from cluster.errors import SettingsError
from cluster.settings import digest
from jobs.job import job
from jobs.outside import take_in
from jobs.stage import Stage, check_sources
from jobs.training_rows import training_rows
from training.checks import rows_digest
from training.export import check_exporter, export_onnx
from training.records import Wording
from training.settings import RowShares, StudentSettings
from training.several import Wanted, train_all

_ALONE: dict[str, Any] = {"rows": RowShares(seeds=1.0), "cartography": False, "onnx": False}


@dataclass(frozen=True, slots=True)
class Pupil:
    """A student, which may be trained several times."""

    settings: StudentSettings

    @property
    def trained_on(self) -> str:
        """`synthetic`, `seeds`, `gold`, or `mixed`, which is the dataset beside gold rows."""
        return self.settings.rows.kind

    @property
    def key(self) -> str:
        """Folder of the student in the run folder."""
        return f"students/{self.settings.name}"

    @property
    def others(self) -> str:
        """Folder of its further runs, apart from the student: who fetches it need not fetch them."""
        return f"student-runs/{self.settings.name}"

    def runs(self, again: bool) -> list[tuple[StudentSettings, str]]:
        """Return settings and folder of each run, the kept one first; again: with other seeds."""
        name, count = self.settings.name, self.settings.runs
        seed = self.settings.seed + (count if again else 0)
        found = [(self.settings.model_copy(update={"seed": seed}), self.key)]
        for run in range(1, count):
            changed = {"seed": seed + run, "name": f"{name}-run-{run}"}
            found.append((self.settings.model_copy(update=changed), f"{self.others}/run-{run}"))
        return found


def pupils(stage: Stage) -> Iterator[Pupil]:
    """Yield the students of a recipe, and its seeds-only baseline."""
    if not stage.recipe.students:
        raise SettingsError(
            "students: the recipe names none; add one, for example {name: minilm, preset: minilm}"
        )
    for settings in stage.recipe.students:
        check_sources(settings, bool(stage.task.seeds), bool(stage.plan.train))
        yield Pupil(settings)
    first = stage.recipe.students[0]
    if stage.recipe.seeds_only and stage.task.seeds and first.rows.kind != "seeds":
        yield Pupil(first.model_copy(update={"name": f"{first.name}-seeds-only", **_ALONE}))


def run(stage: Stage) -> int:
    """Train every student that is not trained on these very rows already."""
    if stage.recipe.dataset is not None:
        take_in(stage, stage.recipe.dataset)
    train(stage, list(pupils(stage)))
    return 0


def train(stage: Stage, chosen: Sequence[Pupil]) -> None:
    """Train all runs of some students, as many at a time as the cluster has room for."""
    wanted: list[Wanted] = []
    for pupil in chosen:
        if pupil.settings.onnx:
            check_exporter(pupil.settings.name)
    for pupil in chosen:
        rows = training_rows(stage, pupil.settings)
        runs = pupil.runs(_history(stage, pupil, rows).first is not None)
        several = f", {len(runs)} runs" if len(runs) > 1 else ""
        stage.progress.say(
            f"Student {pupil.settings.name}: training on {rows.num_rows} {pupil.trained_on} rows{several}"
        )
        wanted += [Wanted(settings, rows, key, wording(stage, settings)) for settings, key in runs]
    stage.lease.renew(force=True)
    at_once = stage.recipe.students_at_once
    for report in train_all(wanted, stage.task.labels, stage.run, at_once):
        stage.progress.event(
            "trained",
            student=report.name,
            rows=report.rows,
            reused=report.reused,
            seconds=report.seconds,
        )
    for pupil in chosen:
        if pupil.settings.onnx:
            export_onnx(stage.run, pupil.key)


def wording(stage: Stage, student: StudentSettings) -> Wording | None:
    """Return how the task is put to a causal student; None for an encoder, which reads the text alone."""
    if student.kind == "encoder":
        return None
    task = stage.task.settings
    return Wording(student.instruction or task.instruction, task.labels, task.text_type)


@dataclass(frozen=True, slots=True)
class History:
    """What the runs of a student are trained for."""

    asked: str
    first: tuple[float, ...] | None = None
    """Accuracies of the first runs, if they were so far apart that all were trained anew."""


def read_history(stage: Stage, pupil: Pupil) -> History:
    """Return the history of a student whose runs were begun."""
    record = json.loads(stage.run.read(f"{pupil.others}/runs.json"))
    return History(record["asked"], record["first"] and tuple(record["first"]))


def write_history(stage: Stage, pupil: Pupil, history: History) -> None:
    """Keep the history of a student beside its further runs."""
    stage.run.write(f"{pupil.others}/runs.json", json.dumps(asdict(history), indent=1).encode())


def _history(stage: Stage, pupil: Pupil, rows: pa.Table) -> History:
    """Return the history of these very rows and settings, which begins now if there is none."""
    if pupil.settings.runs == 1:
        return History("")
    settings = pupil.settings
    asked = digest([rows_digest(rows), stage.task.labels, settings.identity(), settings.base, settings.runs])
    if stage.run.exists(f"{pupil.others}/runs.json"):
        earlier = read_history(stage, pupil)
        if earlier.asked == asked:
            return earlier
    history = History(asked)
    write_history(stage, pupil, history)
    return history


main = job("train", run)

if __name__ == "__main__":
    main()
