"""The teacher itself, asked for the labels of gold test rows, which methods are held against."""

import asyncio
from collections.abc import Sequence

from cluster.settings import digest
from jobs.comparing import Entry
from jobs.comparison_settings import TeacherBaseline
from jobs.pooled import pooled
from jobs.stage import Stage
from synth.labelling import Labeller
from synth.method import Generate
from synth.task import Gold


def called(shots: int) -> str:
    """Return what a table calls the teacher with so many examples of each label."""
    return f"teacher, {shots} shot{'s' if shots > 1 else ''}" if shots else "teacher, zero-shot"


def ask_teacher(stage: Stage, settings: TeacherBaseline, shots: int) -> Entry:
    """Return how well the teacher labels gold test rows with so many examples of each label before them.

    A reply that names no label, or several, is wrong. What was asked before is not asked again.
    """
    name, rows = called(shots), _drawn(stage.plan.test, settings.rows)
    labeller = Labeller(stage.task, shots, settings.draw_seed)
    if shots and not labeller.shots:
        return Entry(name, "teacher", stage.recipe.run, failed="the task names no seeds (task.seeds)")
    stage.progress.say(f"Comparison: asking {name} for the labels of {len(rows)} gold test rows")

    async def asking(generate: Generate) -> list[str | None]:
        return await asyncio.gather(*(labeller.label(row.fields, generate) for row in rows))

    teacher = stage.recipe.teacher
    given = pooled(stage, f"teacher-{shots}", teacher.resolve(), stage.plan.revision, asking)
    right = {row.id: float(label in row.labels) for row, label in zip(rows, given, strict=True)}
    accuracy = sum(right.values()) / len(right)
    facts = {"rows": 0, "asked": len(rows), "unreadable": sum(label is None for label in given)}
    scores = {"": {"accuracies": [accuracy], "mean": accuracy, "std": None}}
    return Entry(name, "teacher", stage.recipe.run, facts, scores, {"": right})


def _drawn(rows: Sequence[Gold], count: int | None) -> list[Gold]:
    """Draw so many rows by a hash of their ids, in the order of the file."""
    kept = {row.id for row in sorted(rows, key=lambda row: digest(["asked", row.id]))[:count]}
    return [row for row in rows if row.id in kept]
