"""The task: labels with verbalizers, what a text is, seeds and gold test rows."""

import random
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
SEED_DRAW = 42
"""Seed of the draw of `seeds_per_label`, as in SynthesizRR's published code."""
_NOT_SHOWN = {"seeds", "seeds_per_label", "train", "test", "name", "columns"}
"""Settings that no prompt shows; seeds are in a task's identity by themselves."""


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
    """Names of the text fields of an example; also name by name what each holds, in words of a prompt."""
    field_types: dict[str, str] = {}
    """What fields hold; comes from `fields`."""
    columns: dict[str, str] = {}
    """Field name to the column it has in the files of gold rows, where the two differ."""
    length: str | None = None
    """Length of a text in words of the prompt, for example `one or two sentences`."""
    style: str | None = None
    """Style of a text in words of the prompt."""
    seeds: Path | None = None
    """JSONL file (plain or .gz, .zst) of gold rows with the fields and `label`."""
    seeds_per_label: int | None = Field(None, ge=1)
    """Take so many seeds of each label, drawn once and for all, where the file has more."""
    train: Path | None = None
    """JSONL file of gold training rows for students and judges; only method `s3` shows any to a teacher."""
    test: Path | None = None
    """JSONL file of gold test rows; never shown to a teacher, and nothing is trained or chosen by them."""

    @model_validator(mode="before")
    @classmethod
    def _described(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(fields := data.get("fields"), dict):
            told = {str(name): str(what or "").strip() for name, what in fields.items()}
            if not all(told.values()):
                raise ValueError("fields: say of each what it holds, or give a plain list of names")
            return data | {"fields": list(told), "field_types": told}
        return data

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
        if unknown := sorted({*self.field_types, *self.columns} - set(self.fields)):
            raise ValueError(f"fields: {', '.join(unknown)} is none of {', '.join(self.fields)}")
        return self

    def what(self, field: str) -> str:
        """Return what a field holds, in words of a prompt."""
        own = self.text_type if field == "text" else field.replace("_", " ")
        return self.field_types.get(field, own)


@dataclass(frozen=True, slots=True)
class Gold:
    """A gold row: a seed, a training row or a test row; id is a hash of its content."""

    id: str
    fields: Mapping[str, str]
    label: str
    others: tuple[str, ...] = ()
    """Labels that hold as well; seeds have none."""

    @property
    def text(self) -> str:
        """The main field."""
        return self.fields["text"]

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that hold."""
        return (self.label, *self.others)


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

    def as_one_text(self, fields: Mapping[str, str]) -> str:
        """Return an example as a student reads it: the main field, then a line for each other one."""
        others = [name for name in self.settings.fields if name != "text"]
        lines = (f"{name.replace('_', ' ').capitalize()}: {fields[name]}" for name in others)
        return "\n".join([fields["text"], *lines])

    def identity(self) -> dict[str, Any]:
        """What of the task determines a row's content; test rows do not."""
        shown = self.settings.model_dump(mode="json", exclude=_NOT_SHOWN)
        # A task that does not say has the identity that it had before it could.
        if not shown["field_types"]:
            del shown["field_types"]
        # The order of the labels is that of the plan.
        return shown | {"order": list(self.labels), "seeds": digest([seed.id for seed in self.seeds])}


def load_task(source: Path | Mapping[str, Any], base: Path) -> Task:
    """Read a task from a YAML file, an inline mapping, or a mapping with a `file` and what differs from it.

    Relative paths start at the file that names them, those of a mapping at base.
    """
    given = {} if isinstance(source, Path) else dict(source)
    file = source if isinstance(source, Path) else given.pop("file", None)
    path = base / str(file) if file is not None else None
    data = _placed(read_yaml(path), path.parent) if path is not None else {}
    settings = validate(TaskSettings, data | _placed(given, base), str(path or "task"))
    seeds = tuple(read_gold(settings.seeds, settings)) if settings.seeds else ()
    return Task(settings=settings, seeds=_drawn(seeds, settings.seeds_per_label))


def _placed(data: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """Return a task's mapping with its paths made absolute; what is no path is refused later."""
    files = {
        name: base / data[name]
        for name in ("seeds", "train", "test")
        if isinstance(data.get(name), str | Path)
    }
    return {**data, **files}


def _drawn(seeds: tuple[Gold, ...], count: int | None) -> tuple[Gold, ...]:
    """Draw so many seeds of each label, without replacement; they stay in the order of the file."""
    if count is None:
        return seeds
    rng, kept = random.Random(SEED_DRAW), set[str]()
    for label in dict.fromkeys(seed.label for seed in seeds):
        ids = [seed.id for seed in seeds if seed.label == label]
        kept.update(rng.sample(ids, min(count, len(ids))))
    return tuple(seed for seed in seeds if seed.id in kept)


def load_test(task: Task) -> list[Gold]:
    """Read the gold test rows; SettingsError when the task has none."""
    if task.settings.test is None:
        raise SettingsError("task.test: names no file; students are scored on gold test rows")
    return list(read_gold(task.settings.test, task.settings, several=True))


def load_train(task: Task) -> list[Gold]:
    """Read the gold training rows; none when the task names no file of them."""
    path = task.settings.train
    return list(read_gold(path, task.settings, several=True)) if path is not None else []


def read_gold(path: Path, settings: TaskSettings, several: bool = False) -> Iterator[Gold]:
    """Yield checked gold rows of a JSONL file; exact duplicates are dropped; DataError names file and row.

    With `several`, a row's label may be a list of labels that all hold.
    """
    seen: set[str] = set()
    for number, row in read_jsonl(path):
        gold = _gold(row, f"{path}:{number}", settings, several)
        if gold.id not in seen:
            seen.add(gold.id)
            yield gold
    if not seen:
        raise DataError(f"{path}: holds no rows")


def _gold(row: Mapping[str, Any], place: str, settings: TaskSettings, several: bool) -> Gold:
    given = row.get("label")
    listed: list[Any] = given if several and isinstance(given, list) and given else [given]
    labels = list(dict.fromkeys(_label(each, place, settings) for each in listed))
    fields: dict[str, str] = {}
    for name in settings.fields:
        column = settings.columns.get(name, name)
        value = row.get(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(f"{place}: {column!r} must be a text that is not empty")
        if len(value) > MAX_CHARACTERS:
            raise DataError(
                f"{place}: {column!r} has {len(value):,} characters, at most {MAX_CHARACTERS:,} are taken; "
                "shorten or remove the row"
            )
        fields[name] = value.strip()
    content = [fields, labels if len(labels) > 1 else labels[0]]
    return Gold(digest(content)[:16], fields, labels[0], tuple(labels[1:]))


def _label(label: Any, place: str, settings: TaskSettings) -> str:
    if isinstance(label, int) and not isinstance(label, bool):
        # The task's own labels are texts, even those that YAML gave as numbers.
        label = str(label)
    if not isinstance(label, str) or label not in settings.labels:
        known = ", ".join(settings.labels)
        raise DataError(f"{place}: label {label!r} is unknown; the task has {known}")
    return label
