"""Let the teacher write the dataset: retrieve, plan, generate, commit, curate.

nightshift synthesize recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.synthesize recipe.yaml
"""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pyarrow.parquet as pq

from cluster.ledger import part_count
from cluster.rundir import check_fingerprint, read_metrics, record_run, update_metrics
from jobs.index import build
from jobs.job import job
from jobs.stage import Stage
from retrieval.search import open_retriever
from synth.books import balance
from synth.curate import Dataset, curate
from synth.metrics.reuse import document_reuse
from synth.preparation import MANIFEST
from synth.synthesis import Order, Result, synthesize
from synth.worker import Assignment

STOPPED_BY_LIMIT = 3


def run(stage: Stage) -> int:
    """Write the dataset; 3 when a label stalled or a limit was reached: it is smaller than asked for."""
    order = _order(stage)
    result = synthesize(order)
    stage.lease.renew(force=True)
    dataset = curate(stage.run, stage.task.settings.fields, order.targets)
    books = balance(stage.run, dataset, result.drawn, result.unfinished)
    _record(stage, order, result, dataset, books.as_json())
    refused = sum(books.rejected.values())
    stage.progress.step(
        "synthesized",
        f"Dataset: {dataset.rows} rows from {books.items.drawn} items; {refused} replies rejected, "
        f"{books.items.failed} items failed; the books balance",
        rows=dataset.rows,
    )
    for label, why in result.short.items():
        stage.progress.step("stalled", f"Label {label} stalled: {why}", label=label, why=why)
    if result.stopped is not None:
        stage.progress.step("stopped", f"Stopped early: {result.stopped}", why=result.stopped)
    return STOPPED_BY_LIMIT if result.short or result.stopped else 0


def _order(stage: Stage) -> Order:
    recipe = stage.recipe
    teacher = recipe.teacher.resolve()
    index = build(stage) if recipe.method.needs_corpus else None
    content = {
        "task": stage.task.identity(),
        "method": recipe.method.model_dump(mode="json"),
        "teacher": teacher.identity() | {"revision": stage.plan.revision},
        "filters": recipe.filters.model_dump(mode="json"),
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
            stage.plan.revision,
            filters=recipe.filters,
            test=stage.plan.test,
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
            "teacher": recipe.teacher.model,
            "revision": stage.plan.revision,
            "seconds": round(earlier.get("seconds", 0.0) + result.seconds, 1),
            "restarts": earlier.get("restarts", 0) + result.restarts,
            "stalled": dict(result.short),
            **({"stopped": result.stopped} if result.stopped else {}),
            "fleet": dict(result.fleet) or earlier.get("fleet", {}),
            **counts,
        },
    )


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
