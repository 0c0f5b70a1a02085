"""Generate, embed and choose, in turns, until a round has its rows."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from jobs.stage import Stage
from synth.choice import Choice, Step, choose
from synth.embedded import embed_accepted
from synth.limits import Limits
from synth.semantic import Meanings
from synth.synthesis import Order, Result, synthesize


def filled(stage: Stage, order: Order, steps: Sequence[Step]) -> tuple[Result, Choice]:
    """Generate and choose until nothing is lacking that can be had; steps are the rounds so far.

    What a row says is known once it is embedded: rows that turn out to say the same as others are made up
    for in another turn. The dataset does not depend on the turns: after the last one, all items of a label
    up to its last chosen row are settled, and were judged by the same verdicts as the choice.
    """
    limits = fixed(order.limits)
    results: list[Result] = []
    choice, settled = None, -1
    while True:
        results.append(synthesize(order))
        stage.lease.renew(force=True)
        before, settled = settled, results[-1].drawn - results[-1].unfinished
        if choice is not None and settled == before:
            break
        choice = chosen(stage, order, steps)
        if results[-1].stopped is not None or choice.twins == order.twins:
            break
        lacking = choice.lacking(order.targets)
        told = ", ".join(f"{label} {rows}" for label, rows in lacking.items())
        stage.progress.step(
            "judged_meanings",
            f"Curation: {len(choice.twins)} rows say the same as others"
            + (f"; still lacking: {told}" if told else ""),
            twins=len(choice.twins),
            lacking=lacking,
        )
        order = replace(order, limits=limits, twins=choice.twins, spare=choice.spare(order.targets))
    return _summed(results, choice, order), choice


def chosen(stage: Stage, order: Order, steps: Sequence[Step], rounds: int | None = None) -> Choice:
    """Choose the rows of the dataset after some steps, from the rows of so many rounds."""
    near = order.assignment.filters.near_duplicates
    return choose(stage.run, steps[-1].targets, near, _meanings(stage), steps, rounds)


def fixed(limits: Limits) -> Limits:
    """Return limits whose deadline, which counts from the start, is a moment: a later turn has the same."""
    end = limits.ends(time.time())
    if end is None:
        return limits
    return limits.model_copy(update={"deadline": datetime.fromtimestamp(end).astimezone().isoformat()})


def _meanings(stage: Stage) -> Meanings | None:
    """Embed what is not embedded yet; None when the recipe does not ask for it."""
    semantic = stage.recipe.curation.semantic
    if semantic is None:
        return None

    def show(step: str, done: int, total: int) -> None:
        stage.progress.live("curation", f"Curation: {step} {done}/{total}", step=step, done=done, total=total)

    vectors = embed_accepted(stage.run, stage.task.settings.fields, semantic.encoder, show)
    stage.lease.renew(force=True)
    return Meanings(vectors, semantic.similarity, semantic.across_labels)


def _summed(results: Sequence[Result], choice: Choice, order: Order) -> Result:
    """Return what several turns came to."""
    lacking, twins = choice.lacking(order.targets), choice.twins_per_label
    return replace(
        summed(results),
        short={
            label: why + (f"; {twins[label]} rows say the same as others" if twins.get(label) else "")
            for label, why in results[-1].short.items()
            if label in lacking
        },
    )


def summed(results: Sequence[Result]) -> Result:
    """Return the last result, with what all of them took."""
    fleets = [result.fleet for result in results if result.fleet]
    return replace(
        results[-1],
        restarts=sum(result.restarts for result in results),
        seconds=sum(result.seconds for result in results),
        fleet=fleets[-1] if fleets else {},
    )
