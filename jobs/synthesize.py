"""Let the teacher write the dataset: retrieve, plan, generate, commit, curate.

nightshift synthesize recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.synthesize recipe.yaml
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pyarrow.parquet as pq

from cluster.errors import FingerprintError
from cluster.ledger import Ledger, part_count
from cluster.rundir import check_fingerprint, read_metrics, record_run, update_metrics
from jobs.bias import measure_bias
from jobs.index import build
from jobs.job import job
from jobs.outside import take_in
from jobs.rounds import worked
from jobs.stage import Stage
from jobs.tune import writer
from retrieval.search import open_retriever
from synth.books import Books, balance
from synth.curate import Dataset, lay_out
from synth.metrics.acceptance import Passed, acceptance
from synth.metrics.reuse import document_reuse
from synth.preparation import MANIFEST, read_sources
from synth.rows import ledger_schema
from synth.synthesis import Order, Result
from synth.worker import Assignment

STOPPED_BY_LIMIT = 3


def run(stage: Stage) -> int:
    """Write the dataset; 3 when a label stalled or a limit was reached: it is smaller than asked for."""
    if stage.recipe.dataset is not None:
        take_in(stage, stage.recipe.dataset)
        return 0
    if "from" in (read_metrics(stage.run).get("dataset") or {}):
        raise FingerprintError(
            f"{stage.run.url}: holds what another tool made; name this run otherwise with --set run=NAME"
        )
    order = _order(stage)
    ledger = Ledger(stage.run, stage.lease, ledger_schema(stage.task.settings.fields))
    rounds = worked(stage, replace(order, ledger=ledger))
    result = rounds.result(order.targets)
    dataset = lay_out(stage.run, stage.task.settings.fields, order.targets, rounds.last, rounds.weights)
    books = balance(stage.run, dataset, result.drawn, result.unfinished)
    stages = _stages(stage, books)
    _record(stage, order, result, dataset, books.as_json() | {"stages": [asdict(each) for each in stages]})
    if len(rounds.told) > 1:
        update_metrics(stage.run, rounds=rounds.told)
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
        embed=retriever.embed if retriever and retriever.encodes else None,
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
