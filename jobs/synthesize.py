"""Let the teacher write the dataset: retrieve, plan, generate, commit, curate.

nightshift synthesize recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.synthesize recipe.yaml
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from cluster.ledger import Ledger, part_count
from cluster.rundir import check_fingerprint, read_metrics, record_run, update_metrics
from jobs.bias import measure_bias
from jobs.index import build
from jobs.job import job
from jobs.stage import Stage
from jobs.tune import writer
from retrieval.search import open_retriever
from synth.books import Books, balance
from synth.choice import Choice, choose
from synth.curate import Dataset, lay_out
from synth.embedded import embed_accepted
from synth.limits import Limits
from synth.metrics.acceptance import Passed, acceptance
from synth.metrics.reuse import document_reuse
from synth.preparation import MANIFEST, read_sources
from synth.rows import ledger_schema
from synth.semantic import Meanings
from synth.synthesis import Order, Result, synthesize
from synth.worker import Assignment

STOPPED_BY_LIMIT = 3


def run(stage: Stage) -> int:
    """Write the dataset; 3 when a label stalled or a limit was reached: it is smaller than asked for."""
    order = _order(stage)
    result, choice = _filled(stage, order)
    dataset = lay_out(stage.run, stage.task.settings.fields, order.targets, choice)
    books = balance(stage.run, dataset, result.drawn, result.unfinished)
    stages = _stages(stage, books)
    _record(stage, order, result, dataset, books.as_json() | {"stages": [asdict(each) for each in stages]})
    refused = sum(books.rejected.values())
    stage.progress.step(
        "synthesized",
        f"Dataset: {dataset.rows} rows from {books.items.drawn} items; {refused} replies rejected, "
        f"{books.items.failed} items failed; the books balance",
        rows=dataset.rows,
    )
    stage.progress.say("Accepted: " + ", ".join(f"{each.stage} {each.got}/{each.asked}" for each in stages))
    measure_bias(stage)
    for label, why in result.short.items():
        stage.progress.step("stalled", f"Label {label} stalled: {why}", label=label, why=why)
    if result.stopped is not None:
        stage.progress.step("stopped", f"Stopped early: {result.stopped}", why=result.stopped)
    return STOPPED_BY_LIMIT if result.short or result.stopped else 0


def _filled(stage: Stage, order: Order) -> tuple[Result, Choice]:
    """Generate and choose until nothing is lacking that can be had.

    What a row says is known once it is embedded: rows that turn out to say the same as others are made up
    for in another turn. The dataset does not depend on the turns: after the last one, all items of a label
    up to its last chosen row are settled, and were judged by the same verdicts as the choice.
    """
    order = replace(order, ledger=Ledger(stage.run, stage.lease, ledger_schema(stage.task.settings.fields)))
    limits, near = _fixed(order.limits), stage.recipe.filters.near_duplicates
    results: list[Result] = []
    choice, settled = None, -1
    while True:
        results.append(synthesize(order))
        stage.lease.renew(force=True)
        before, settled = settled, results[-1].drawn - results[-1].unfinished
        if choice is not None and settled == before:
            break
        choice = choose(stage.run, order.targets, near, _meanings(stage))
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


def _fixed(limits: Limits) -> Limits:
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
    fleets = [result.fleet for result in results if result.fleet]
    lacking, twins = choice.lacking(order.targets), choice.twins_per_label
    return replace(
        results[-1],
        short={
            label: why + (f"; {twins[label]} rows say the same as others" if twins.get(label) else "")
            for label, why in results[-1].short.items()
            if label in lacking
        },
        restarts=sum(result.restarts for result in results),
        seconds=sum(result.seconds for result in results),
        fleet=fleets[-1] if fleets else {},
    )


def _order(stage: Stage) -> Order:
    recipe = stage.recipe
    teacher, revision = writer(stage)
    judge = recipe.judge.resolve() if recipe.judge else None
    index = build(stage) if recipe.method.needs_corpus else None
    content = {
        "task": stage.task.identity(),
        "method": recipe.method.identity(),
        "teacher": teacher.identity() | {"revision": revision},
        "filters": recipe.filters.identity(),
        "judge": judge.identity() | {"revision": stage.plan.judge_revision} if judge else None,
        "index": index.fingerprint if index else None,
        "retriever": recipe.retriever.model_dump(mode="json") if index else None,
    }
    begun = part_count(stage.run) > 0
    if not begun:
        # The settings may still change, and what was prepared for others is of no use to these.
        stage.run.delete(MANIFEST)
        stage.run.delete("sources")
    check_fingerprint(stage.run, "synthesize", content, begun)
    record_run(stage.run, recipe.run, recipe.model_dump(mode="json"))
    retriever = open_retriever(index, recipe.retriever) if index else None
    return Order(
        assignment=Assignment(
            stage.task,
            recipe.method,
            teacher,
            revision,
            filters=recipe.filters,
            test=stage.plan.test,
            judge=judge,
            judge_revision=stage.plan.judge_revision,
        ),
        targets=recipe.targets.quotas(stage.task.labels),
        ceiling=recipe.targets.ceiling,
        store=stage.run,
        lease=stage.lease,
        progress=stage.progress,
        limits=recipe.limits,
        retrieve=retriever.search if retriever else None,
        band=retriever.band if retriever else None,
    )


def _record(stage: Stage, order: Order, result: Result, dataset: Dataset, counts: dict[str, object]) -> None:
    recipe, settings = stage.recipe, stage.task.settings
    earlier = read_metrics(stage.run).get("synthesis", {})
    update_metrics(
        stage.run,
        task={
            "name": settings.name,
            "instruction": settings.instruction,
            "text_type": settings.text_type,
            "labels": dict(settings.labels),
        },
        documents=_reuse(stage),
        dataset=asdict(dataset) | {"target": dict(order.targets)},
        costs=dict(result.costs),
        synthesis={
            "method": recipe.method.name,
            "teacher": order.assignment.teacher.model,
            "revision": order.assignment.revision,
            "seconds": round(earlier.get("seconds", 0.0) + result.seconds, 1),
            "restarts": earlier.get("restarts", 0) + result.restarts,
            "stalled": dict(result.short),
            **({"stopped": result.stopped} if result.stopped else {}),
            "fleet": dict(result.fleet) or earlier.get("fleet", {}),
            **counts,
        },
    )


def _stages(stage: Stage, books: Books) -> list[Passed]:
    """Return how much came through at each stage of the method, of preparation and of what judges rows."""
    prepared = (read_sources(stage.run) or {}).get("stages")
    return acceptance(prepared, books.rejected, books.accepted, stage.recipe.method.stages)


def _reuse(stage: Stage) -> dict[str, Any] | None:
    """Return how often each document serves in the dataset."""
    reuse = document_reuse(ids or () for ids in _document_ids(stage))
    return asdict(reuse) if reuse else None


def _document_ids(stage: Stage) -> Iterator[list[str] | None]:
    """Yield the document ids of every row, without reading the other columns."""
    for key in stage.run.list("data"):
        with stage.run.open(key) as file:
            yield from pq.read_table(file, columns=["document_ids"])["document_ids"].to_pylist()


main = job("synthesize", run)

if __name__ == "__main__":
    main()
