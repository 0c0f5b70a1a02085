"""Fine-tune the students on the dataset, and the first of them on the seeds alone as a baseline.

nightshift train recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.train recipe.yaml
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError, SettingsError
from jobs.job import job
from jobs.stage import Stage
from training.settings import StudentSettings
from training.student import train_student


@dataclass(frozen=True, slots=True)
class Pupil:
    """A student and the rows it learns from."""

    settings: StudentSettings
    trained_on: str
    """`synthetic`, `seeds`, or `mixed`, which is both."""

    @property
    def key(self) -> str:
        """Folder of the student in the run folder."""
        return f"students/{self.settings.name}"


def pupils(stage: Stage) -> Iterator[Pupil]:
    """Yield the students of a recipe, and its seeds-only baseline."""
    if not stage.recipe.students:
        raise SettingsError(
            "students: the recipe names none; add one, for example {name: minilm, preset: minilm}"
        )
    for settings in stage.recipe.students:
        if settings.mix_seeds and not stage.task.seeds:
            raise SettingsError(
                f"students: {settings.name}: mix_seeds needs gold seeds; name them in task.seeds or remove it"
            )
        yield Pupil(settings, "mixed" if settings.mix_seeds else "synthetic")
    first = stage.recipe.students[0]
    if stage.recipe.seeds_only and stage.task.seeds:
        alone = {"name": f"{first.name}-seeds-only", "mix_seeds": False}
        yield Pupil(first.model_copy(update=alone), "seeds")


def training_rows(stage: Stage, pupil: Pupil) -> pa.Table:
    """Return the rows a student learns from: text, label by name, id; of mixed rows, the seeds come first."""
    if pupil.trained_on == "seeds":
        return _seeds(stage)
    dataset = _dataset(stage)
    return pa.concat_tables([_seeds(stage), dataset]) if pupil.trained_on == "mixed" else dataset


def _seeds(stage: Stage) -> pa.Table:
    seeds = stage.task.seeds
    columns = {
        "text": [stage.task.as_one_text(s.fields) for s in seeds],
        "label": [s.label for s in seeds],
        "id": [s.id for s in seeds],
    }
    return pa.table(columns)


def _dataset(stage: Stage) -> pa.Table:
    keys = stage.run.list("data")
    if not keys:
        raise DataError(f"{stage.run.url}: holds no dataset yet; run `nightshift synthesize` first")
    fields = stage.task.settings.fields
    columns = [*fields, "label", "id"]
    parts = [pq.read_table(io.BytesIO(stage.run.read(key)), columns=columns) for key in keys]
    table = pa.concat_tables(parts).replace_schema_metadata(None)
    if not table.num_rows:
        raise DataError(f"{stage.run.url}/data: holds no rows; see why replies were rejected in the ledger")
    if pa.types.is_list(table["label"].type):
        raise DataError("students: rows with several labels cannot train a single-label student")
    texts = [stage.task.as_one_text(row) for row in table.select(fields).to_pylist()]
    names = [stage.task.labels[number] for number in table["label"].to_pylist()]
    return pa.table({"text": texts, "label": names, "id": table["id"]})


def run(stage: Stage) -> int:
    """Train every student that is not trained on these very rows already."""
    for pupil in pupils(stage):
        stage.lease.renew(force=True)
        rows = training_rows(stage, pupil)
        stage.progress.say(
            f"Student {pupil.settings.name}: training on {rows.num_rows} {pupil.trained_on} rows"
        )
        report = train_student(rows, stage.task.labels, pupil.settings, stage.run, pupil.key)
        stage.progress.event(
            "trained",
            student=pupil.settings.name,
            rows=rows.num_rows,
            reused=report.reused,
            seconds=report.seconds,
        )
    return 0


main = job("train", run)

if __name__ == "__main__":
    main()
