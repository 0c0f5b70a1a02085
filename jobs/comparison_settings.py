"""A comparison: the same recipe for several methods and tasks, at equal rows or for an equal token budget."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from cluster.errors import SettingsError
from cluster.settings import Settings, override, read_yaml, validate
from jobs.recipe import Recipe, placed_recipe
from training.settings import RowShares

PART = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
BASELINES = "baselines"
"""What stands for a method in the name of the run whose students learn from gold rows and seeds alone."""
_NO_END = 1_000_000
"""Rows of a label that no token budget reaches."""


class TeacherBaseline(Settings):
    """The teacher itself as a classifier of the gold test rows."""

    shots: tuple[Annotated[int, Field(ge=0)], ...] = (0, 4)
    """Seeds of each label that it is shown, once for each number; 0 shows none."""
    rows: int | None = Field(default=500, ge=1)
    """Gold test rows that it is asked about, at most; null for all of them."""
    draw_seed: int = 0
    """Draws the seeds that are shown."""


class Comparison(Settings):
    """Methods and tasks, what they share, and what stands beside them."""

    comparison: str = Field(pattern=PART)
    """Name of the comparison; its folder in the store. The same name resumes."""
    store: str = "runs"
    """Where it is kept, as in a recipe."""
    rows_per_label: int | None = Field(default=None, ge=1)
    """Accepted rows of each label that every method is to make."""
    tokens: int | None = Field(default=None, ge=1)
    """Prompt and reply tokens that every method may use, in place of rows_per_label."""
    base: dict[str, Any] = {}
    """What all runs share, as in a recipe: teacher, students, filters…"""
    tasks: dict[str, dict[str, Any]] = Field(min_length=1)
    """By name: `task`, and whatever differs for it, such as corpus and index."""
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    """By name: `method`, and whatever differs for it."""
    gold: bool = True
    """Train the students on the gold training rows too, where a task names some (task.train)."""
    seeds: bool = True
    """Train the students on the seeds alone too, where a task has some."""
    teacher: TeacherBaseline | None = TeacherBaseline()
    """Ask the teacher itself for the labels of gold test rows."""

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        bad = [name for name in (*self.tasks, *self.methods) if not re.match(PART, name)]
        if bad or BASELINES in self.methods:
            raise ValueError(
                f"{(bad or [BASELINES])[0]!r} cannot be a name: it is part of a run's; use letters, digits, "
                f"_, . and -, and not {BASELINES}"
            )
        if (self.rows_per_label is None) == (self.tokens is None):
            raise ValueError("give exactly one of rows_per_label and tokens: what is equal for all methods")
        return self


def load_comparison(
    path: Path, assignments: tuple[str, ...]
) -> tuple[Comparison, dict[tuple[str, str], Recipe]]:
    """Read a comparison; return it with the recipe of each (task, method). SettingsError names the cell."""
    comparison = validate(Comparison, override(read_yaml(path), assignments), str(path))
    recipes: dict[tuple[str, str], Recipe] = {}
    for task, method, data in _cells(comparison):
        try:
            recipes[task, method] = _equal(comparison, placed_recipe(data, path))
        except SettingsError as error:
            raise SettingsError(f"{error}\n({path}: method {method} on task {task})") from error
    runs: dict[str, tuple[str, str]] = {}
    for place, recipe in recipes.items():
        if (other := runs.setdefault(recipe.run, place)) != place:
            raise SettingsError(
                f"{path}: run {recipe.run} would be both {' and '.join(other)} and {' and '.join(place)}; "
                "name a task or method otherwise"
            )
    return comparison, recipes


def _equal(comparison: Comparison, recipe: Recipe) -> Recipe:
    """Return the recipe; SettingsError when it changes what is to be equal for all."""
    key: str
    wanted: int | None
    if comparison.rows_per_label is not None:
        key, wanted = "targets.rows_per_label", comparison.rows_per_label
        given: Any = recipe.targets.rows_per_label
    else:
        key, wanted, given = "limits.tokens", comparison.tokens, recipe.limits.tokens
    if given != wanted:
        raise SettingsError(f"{key}: is {wanted} for every method and task; leave it out here")
    return recipe


def baseline_of(comparison: Comparison, name: str, recipe: Recipe, seeds: bool, gold: bool) -> Recipe:
    """Return a recipe whose students learn from gold rows alone and from seeds alone, where there are any.

    name is a task's, recipe that of any method on it.
    """
    there = {"gold": comparison.gold and gold, "seeds": comparison.seeds and seeds}
    students = tuple(
        student.model_copy(update={"name": f"{source}-{student.name}", "rows": RowShares(**{source: 1.0})})
        for source in there
        if there[source]
        for student in recipe.students
    )
    changed: dict[str, Any] = {"run": f"{comparison.comparison}-{name}-{BASELINES}", "students": students}
    # A method's budget is not the teacher's own.
    changed["limits"] = recipe.limits.model_copy(update={"tokens": None})
    changed |= dict.fromkeys(("metrics", "cartography", "oracle", "information", "tune", "incubation"))
    return recipe.model_copy(update=changed | {"seeds_only": False})


def _cells(comparison: Comparison) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield task, method and recipe of every run."""
    # For equal tokens a method that has only so many items may be given targets of its own.
    open_end: dict[str, Any] = {"targets": {"rows_per_label": _NO_END}} if comparison.tokens else {}
    equal: dict[str, Any] = {"limits": {"tokens": comparison.tokens}}
    if comparison.tokens is None:
        equal = {"targets": {"rows_per_label": comparison.rows_per_label}}
    for task, of_task in comparison.tasks.items():
        for method, of_method in comparison.methods.items():
            own = {"run": f"{comparison.comparison}-{task}-{method}", "store": comparison.store}
            parts = (open_end, comparison.base, equal, of_task, of_method, own)
            merged: dict[str, Any] = {}
            for part in parts:
                merged = _merged(merged, part)
            yield task, method, {"seeds_only": False} | merged


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, key by key at every depth."""
    result = dict(under)
    for key, value in over.items():
        known = result.get(key)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            result[key] = _merged(known, value)
        else:
            result[key] = value
    return result
