"""The rounds of a run: plan, generate, curate, let a student learn, plan again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from jobs.filling import chosen, filled, fixed, summed
from jobs.learned import Learned, round_folder
from jobs.stage import Stage
from synth.choice import Choice, Step
from synth.method import Round
from synth.synthesis import Order, Result


@dataclass(slots=True)
class Rounds:
    """What the rounds of a run came to."""

    results: list[Result] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    told: list[dict[str, Any]] = field(default_factory=list)
    """For each round, what `metrics.json` says of it."""
    choice: Choice | None = None
    weights: pa.Table | None = None
    """Weight of every row of the dataset, where the method wants students to have it: row_id, weight."""

    @property
    def last(self) -> Choice:
        """The rows of the dataset."""
        if self.choice is None:
            raise RuntimeError("no round was worked")
        return self.choice

    def result(self, targets: Mapping[str, int]) -> Result:
        """Return how the work ended, all rounds together."""
        last = summed(self.results)
        if "ended" not in self.told[-1]:
            return last
        why = self.told[-1]["ended"]
        kept = self.last.per_label
        lacking = self.last.lacking(targets)
        return replace(last, short={each: f"{kept[each]} of {targets[each]} rows; {why}" for each in lacking})


def worked(stage: Stage, order: Order) -> Rounds:
    """Work all rounds of a run, or go on where it was left; it ends early where nothing is to be learned.

    Every round has a folder of its own beside that of the run, `rounds/001` and so on: its fingerprint, what
    a student taught before it, its sources. Its rows go to `ledger/round-001`.
    """
    order = replace(order, limits=fixed(order.limits))
    rounds = planned(stage, order.targets)
    found = Rounds()
    for number, round in enumerate(rounds):
        placed = replace(order, targets=round.targets, round=number)
        if number == 0:
            found.steps.append(Step(round.targets))
            found.told.append({"round": 0, "lessons": []})
        elif (lesson := _entered(stage, order, number, round, found)).ended is None:
            placed = _placed(stage, placed, lesson, found)
        else:
            break
        if len(rounds) > 1:
            stage.progress.step("round", f"Round {number + 1} of {len(rounds)}", round=number)
        result, found.choice = filled(stage, placed, found.steps)
        found.results.append(result)
        found.told[-1] |= {"rows": len(found.choice.rows), "per_label": dict(found.choice.per_label)}
        if result.stopped is not None:
            break
    return found


def planned(stage: Stage, targets: Mapping[str, int]) -> Sequence[Round]:
    """Return the rounds of the method, and those that drop rows by the data map and refill."""
    rounds = list(stage.recipe.method.rounds(targets))
    return rounds + [Round(targets, ("cartography",))] * stage.recipe.feedback.refills


def _entered(stage: Stage, order: Order, number: int, round: Round, found: Rounds) -> Learned:
    """Learn what a round is planned from, and take note of it."""
    # Torch is loaded only where a student learns.
    from jobs.learning import learned

    lesson = learned(stage, number, round, found.last, order)
    told = dict(lesson.told)
    found.told[-1]["accuracy"] = told.pop("accuracy", None)
    found.told.append({"round": number, "lessons": list(round.lessons), **told})
    if lesson.ended is not None:
        stage.progress.step("round_ended", f"Round {number + 1}: {lesson.ended}; the run ends", round=number)
        found.told[-1] |= {"rows": len(found.last.rows), "ended": lesson.ended}
    return lesson


def _placed(stage: Stage, order: Order, lesson: Learned, found: Rounds) -> Order:
    """Let the rows go that a round leaves out, and return its order."""
    settings = stage.recipe.method
    found.steps.append(Step(order.targets, lesson.left_out))
    if lesson.weights is not None and settings.weights_in_dataset:
        found.weights = lesson.weights
    found.told[-1]["left_out"] = len(lesson.left_out)
    return replace(
        order,
        feedback=lesson.feedback,
        earlier=lambda: chosen(stage, order, found.steps, order.round).quota,
        place=round_folder(stage.run, order.round) if settings.prepares_each_round else None,
    )
