"""The labelled datasets that Incubator's pairs are drawn from: tasks, with their rows as seeds."""

from pathlib import Path

from cluster.errors import SettingsError
from synth.task import Task, load_task
from training.incubation.settings import IncubationSettings

TASK_FILE = "task.yaml"


def load_datasets(settings: IncubationSettings, base: Path) -> list[Task]:
    """Read and check all datasets; relative paths start at base.

    Errors: SettingsError for a folder without a task, a task without rows, or two of the same name; DataError
    for a row that cannot be read.
    """
    tasks: list[Task] = []
    for given in settings.datasets:
        task = load_task(_file(base / given) if isinstance(given, Path) else given, base)
        name = task.settings.name
        if not task.seeds:
            raise SettingsError(
                f"incubation.datasets: {name}: has no rows; name them in `seeds`, JSON lines with `text` and "
                "`label`"
            )
        if any(name == other.settings.name for other in tasks):
            raise SettingsError(
                f"incubation.datasets: two are called {name}; give each task a name of its own"
            )
        tasks.append(task)
    return tasks


def _file(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / TASK_FILE).is_file():
        raise SettingsError(
            f"incubation.datasets: {path}: holds no {TASK_FILE}; add one, or name a task file instead"
        )
    return path / TASK_FILE
