"""What a student teaches about the rows so far, before a round is planned: learned once, and kept."""

from dataclasses import replace
from typing import Any

from cluster.errors import NothingLearned
from cluster.models import resolve_model
from cluster.rundir import check_fingerprint
from cluster.settings import digest
from jobs.learned import MANIFEST, Learned, commit_feedback, read_feedback, round_folder
from jobs.lessons import Class
from jobs.stage import Stage, looked_at, student_asked
from synth.choice import Choice
from synth.curate import lay_out
from synth.method import Lesson, Round
from synth.synthesis import Order
from training.feedback_settings import FeedbackSettings


def learned(stage: Stage, number: int, round: Round, choice: Choice, order: Order) -> Learned:
    """Train a student on the rows so far and ask it what a round wants to know.

    It is kept under `rounds/<number>/feedback/`, and learned again only as long as it is not complete, or
    when nothing was learned and settings have changed. FingerprintError when something was learned of other
    rows or with other settings.
    """
    folder, content = round_folder(stage.run, number), _content(stage, round, choice)
    known = read_feedback(folder) if folder.exists(MANIFEST) else None
    # Where nothing was learned nothing was planned from it: with other settings it is tried again.
    void = known is None or (known.ended is not None and known.of != digest(content))
    check_fingerprint(folder, "feedback", content, begun=not void)
    if void:
        dataset = lay_out(stage.run, stage.task.settings.fields, order.targets, choice)
        stage.progress.say(f"Round {number + 1}: a student learns from {dataset.rows} rows")
        commit_feedback(folder, replace(_learn(stage, number, round), of=digest(content)))
    return read_feedback(folder)


def _content(stage: Stage, round: Round, choice: Choice) -> dict[str, Any]:
    """Return what determines the lessons of a round."""
    settings = stage.recipe.feedback
    content: dict[str, Any] = {"rows": choice.digest, "lessons": list(round.lessons)}
    if student_asked(round.lessons, stage.task):
        base = resolve_model(settings.student.base).revision
        content["student"] = settings.student.identity() | {"base": base}
    for name in round.lessons:
        if name == "errors":
            content["errors"] = {
                "gold": stage.recipe.method.looks_at(),
                "rows": digest([row.id for row in looked_at(stage.plan)]),
            }
        else:
            content[name] = _asked_how(settings, name)
    return content


def _asked_how(settings: FeedbackSettings, name: Lesson) -> Any:
    """Return what of the settings a lesson depends on."""
    if name == "influence":
        return settings.influence.identity() | {"validation": settings.validation}
    if name == "weights":
        return settings.weights.identity()
    return settings.folds if name == "agreement" else settings.cartography.model_dump(mode="json")


def _learn(stage: Stage, number: int, round: Round) -> Learned:
    learning = Class(stage, number, round)
    try:
        tables, left_out = learning.taught()
    except NothingLearned as why:
        return Learned(told=learning.told, ended=str(why))
    return Learned(tables, left_out, learning.told)
