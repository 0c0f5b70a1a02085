"""The task: labels with verbalizers, what a text is, seeds and gold test rows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from cluster.errors import DataError, SettingsError
from cluster.jsonl import read_jsonl
from cluster.settings import Settings, digest, read_yaml, validate
from synth.rows import ledger_schema

MAX_CHARACTERS = 100_000


class TaskSettings(Settings):
    """What the user wants classified."""

    name: str = Field(min_length=1)
    """Short name of the task, used in the dataset card."""
    instruction: str = Field(min_length=1)
    """The classification task in plain words."""
    text_type: str = "Text"
    """What a text is (headline, review, abstract); heads an output in prompts."""
    document_type: str = "Document"
    """What a retrieved document is; heads a document in prompts."""
    labels: dict[str, str]
    """Label name to verbalizer: a phrase that describes the label in a prompt."""
    fields: tuple[str, ...] = ("text",)
    """Names of the text fields of an example."""
    length: str | None = None
    """Length of a text in words of the prompt, for example `one or two sentences`."""
    style: str | None = None
    """Style of a text in words of the prompt."""
    seeds: Path | None = None
    """JSONL file (plain or .gz, .zst) of gold rows with the fields and `label`."""
    test: Path | None = None
    """JSONL file of gold test rows; never shown to a teacher."""

    @field_validator("labels", mode="before")
    @classmethod
    def _verbalized(cls, labels: Any) -> Any:
        if isinstance(labels, list):
            raise ValueError("write each label with its verbalizer: `label: phrase that describes it`")
        if isinstance(labels, dict):
            empty = [str(name) for name, phrase in labels.items() if not str(phrase or "").strip()]
            if empty:
                raise ValueError(f"no verbalizer for {', '.join(empty)}; add a phrase that describes it")
            return {str(name): str(phrase) for name, phrase in labels.items()}
        return labels

    @model_validator(mode="after")
    def _enough(self) -> "TaskSettings":
        if len(self.labels) < 2:
            raise ValueError("labels: a classifier needs at least two labels")
        if "text" not in self.fields:
            raise ValueError("fields: one field must be called text")
        taken = {"label", "id", *ledger_schema(()).names} & set(self.fields)
        if taken:
            raise ValueError(f"fields: {', '.join(sorted(taken))} is a column of every dataset; rename it")
        return self


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold row: a seed or a test row; id is a hash of its content."""

    id: str
    fields: Mapping[str, str]
    label: str

    @property
    def text(self) -> str:
        """The main field."""
        return self.fields["text"]


@dataclass(frozen=True, slots=True)
class Task:
    """A task with its seeds read and checked."""

    settings: TaskSettings
    seeds: tuple[Gold, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in the order of the task file."""
        return tuple(self.settings.labels)

    def verbalizer(self, label: str) -> str:
        """Return the phrase that describes a label."""
        return self.settings.labels[label]

    def seeds_of(self, label: str) -> list[Gold]:
        """Return the seeds of a label in file order."""
        return [seed for seed in self.seeds if seed.label == label]

    def identity(self) -> dict[str, Any]:
        """What of the task determines a row's content; test rows do not."""
        shown = self.settings.model_dump(mode="json", exclude={"seeds", "test", "name"})
        # The order of the labels is that of the plan.
        return shown | {"order": list(self.labels), "seeds": digest([seed.id for seed in self.seeds])}


def load_task(source: Path | Mapping[str, Any], base: Path) -> Task:
    """Read a task from a YAML file or an inline mapping; relative paths start at the file or at base."""
    if isinstance(source, Path):
        path = base / source
        data, base, origin = read_yaml(path), path.parent, str(path)
    else:
        data, origin = dict(source), "task"
    settings = validate(TaskSettings, data, origin)
    placed = {
        name: base / value for name in ("seeds", "test") if (value := getattr(settings, name)) is not None
    }
    settings = settings.model_copy(update=placed)
    seeds = tuple(read_gold(settings.seeds, settings)) if settings.seeds else ()
    return Task(settings=settings, seeds=seeds)


def load_test(task: Task) -> list[Gold]:
    """Read the gold test rows; SettingsError when the task has none."""
    if task.settings.test is None:
        raise SettingsError("task.test: names no file; students are scored on gold test rows")
    return list(read_gold(task.settings.test, task.settings))


def read_gold(path: Path, settings: TaskSettings) -> Iterator[Gold]:
    """Yield checked gold rows of a JSONL file; exact duplicates are dropped; DataError names file and row."""
    seen: set[str] = set()
    for number, row in read_jsonl(path):
        gold = _gold(row, f"{path}:{number}", settings)
        if gold.id not in seen:
            seen.add(gold.id)
            yield gold
    if not seen:
        raise DataError(f"{path}: holds no rows")


def _gold(row: Mapping[str, Any], place: str, settings: TaskSettings) -> Gold:
    label = row.get("label")
    if isinstance(label, int) and not isinstance(label, bool):
        # The task's own labels are texts, even those that YAML gave as numbers.
        label = str(label)
    if not isinstance(label, str) or label not in settings.labels:
        known = ", ".join(settings.labels)
        raise DataError(f"{place}: label {label!r} is unknown; the task has {known}")
    fields: dict[str, str] = {}
    for name in settings.fields:
        value = row.get(name)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{place}: {name!r} must be a text that is not empty")
        if len(value) > MAX_CHARACTERS:
            raise DataError(
                f"{place}: {name!r} has {len(value):,} characters, at most {MAX_CHARACTERS:,} are taken; "
                "shorten or remove the row"
            )
        fields[name] = value.strip()
    return Gold(id=digest([fields, label])[:16], fields=fields, label=label)
