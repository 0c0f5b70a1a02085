"""What a student knows: data map, label preservation and V-information of a run's dataset.

Part of `nightshift evaluate` where the recipe has the keys `cartography`, `oracle` or `information`.
"""

import io
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.rundir import read_metrics
from cluster.settings import digest
from jobs.cartography import drawn_map
from jobs.stage import Stage
from jobs.training_rows import dataset_rows, gold_table, several_labels
from training.cartography import map_summary
from training.checks import rows_digest
from training.knowledge_settings import CartographySettings, InformationSettings, OracleSettings
from training.metrics.information import measure
from training.metrics.oracle import label_preservation, train_oracle
from training.metrics.split import held_out
from training.predict import predict_on_cluster

DISAGREEMENTS = "label_preservation.parquet"
"""Rows that the oracle takes for another label, the surest first."""
PVI = "pvi.parquet"
"""Pointwise V-information of every measured row, the lowest first."""
_SEVERAL = "not computed, because rows have several labels each, and one is compared with one"
Answer = dict[str, Any] | str
"""Figures, or why there are none: `not computed, because …`."""


def knowledge(stage: Stage) -> dict[str, Answer]:
    """Answer what the recipe asks of the dataset; for `metrics.json`, under `knowledge`; {} if nothing is.

    What was answered before for the same rows, models and settings is not computed again.
    """
    recipe = stage.recipe
    if recipe.cartography is None and recipe.oracle is None and recipe.information is None:
        return {}
    dataset = dataset_rows(stage)
    answers: dict[str, Answer] = {}
    if recipe.cartography is not None:
        answers["cartography"] = _cartography(stage, dataset, recipe.cartography)
    if recipe.oracle is not None:
        answers["oracle"] = _oracle(stage, dataset, recipe.oracle)
    if recipe.information is not None:
        answers["information"] = _information(stage, dataset, recipe.information)
    return answers


def _cartography(stage: Stage, dataset: pa.Table, settings: CartographySettings) -> Answer:
    return map_summary(drawn_map(stage, dataset, settings), settings)


def _oracle(stage: Stage, dataset: pa.Table, settings: OracleSettings) -> Answer:
    if several_labels(stage):
        return _SEVERAL
    gold, source = _gold(stage, settings.least_seeds)
    if isinstance(gold, str):
        return gold
    test = _plain(gold_table(stage, stage.plan.test)) if stage.plan.test else None
    if settings.choose == "test" and test is None:
        return "not computed, because oracle.choose is test and the task names no gold test rows (task.test)"
    stage.lease.renew(force=True)
    stage.progress.say(f"Oracle: searching with {len(gold)} {source}")
    oracle = train_oracle(gold, test, stage.task.labels, settings, stage.run)
    identity = digest([asdict(oracle), settings.choose, rows_digest(_plain(dataset))])

    def compute() -> dict[str, Any]:
        texts = dataset["text"].to_pylist()
        probabilities = predict_on_cluster(stage.run, oracle.key, texts)
        found, others = label_preservation(dataset, probabilities, stage.task.labels)
        _write(stage, DISAGREEMENTS, others)
        about = {"gold": source, "chosen_by": settings.choose, "accuracy": oracle.accuracy(settings.choose)}
        return {**found, **about, "oracle": asdict(oracle)}

    return _reused(stage, "oracle", identity, compute)


def _information(stage: Stage, dataset: pa.Table, settings: InformationSettings) -> Answer:
    found = _learned_and_measured(stage, dataset, settings)
    if isinstance(found, str):
        return found
    learned, measured = found
    labels = stage.task.labels
    content = [rows_digest(learned), rows_digest(measured), list(labels)]
    identity = digest([*content, settings.model_dump(mode="json")])

    def compute() -> dict[str, Any]:
        stage.lease.renew(force=True)
        stage.progress.say(f"V-information: two students on {len(learned)} {settings.rows} rows")
        answer, table = measure(learned, measured, labels, settings, stage.run)
        _write(stage, PVI, table)
        for warning in answer.warnings:
            stage.progress.say(f"V-information: {warning}")
        about = {"learned": len(learned), "trained_on": settings.rows, "measured_on": settings.measured_on}
        return {**asdict(answer), **about, "base": settings.student.base}

    return _reused(stage, "information", identity, compute)


def _learned_and_measured(
    stage: Stage, dataset: pa.Table, settings: InformationSettings
) -> tuple[pa.Table, pa.Table] | str:
    """Return rows that the students learn from and rows that are measured, or why there are none."""
    if several_labels(stage):
        return _SEVERAL
    rows = _plain(dataset) if settings.rows == "synthetic" else _gold(stage, None)[0]
    if isinstance(rows, str):
        return rows
    if settings.measured_on == "held_out":
        return held_out(rows, stage.task.labels, settings.held_out, settings.student.seed)
    if stage.plan.test:
        return rows, _plain(gold_table(stage, stage.plan.test))
    return (
        "not computed, because the task names no gold test rows (task.test); "
        "information.measured_on: held_out measures rows of the dataset instead"
    )


def _gold(stage: Stage, least_seeds: int | None) -> tuple[pa.Table | str, str]:
    """Return gold rows to learn from and what they are called, or why there are none.

    Rows that are among the gold test rows are left out. The seeds serve where there are least_seeds of each
    label; None does not take them.
    """
    rows, source = stage.plan.train, "gold training rows"
    if not rows and least_seeds is not None:
        fewest = min(len(stage.task.seeds_of(label)) for label in stage.task.labels)
        if fewest < least_seeds:
            return (
                "not computed, because the task names no gold training rows (task.train), and of the seeds "
                f"one label has only {fewest}, fewer than {least_seeds} (oracle.least_seeds)"
            ), ""
        rows, source = stage.task.seeds, "seeds, for want of gold training rows"
    if not rows:
        return "not computed, because the task names no gold training rows (task.train)", ""
    tested = {row.id for row in stage.plan.test}
    return _plain(gold_table(stage, (row for row in rows if row.id not in tested))), source


def _plain(rows: pa.Table) -> pa.Table:
    """Return id, text and label, which is what a figure depends on."""
    names = ("id", "text", "label")
    return rows.select(names).cast(pa.schema([(name, pa.string()) for name in names]))


def _reused(stage: Stage, name: str, identity: str, compute: Callable[[], dict[str, Any]]) -> Answer:
    """Return the answer of an earlier evaluation of the same things, or a new one."""
    earlier = read_metrics(stage.run).get("knowledge", {}).get(name)
    if isinstance(earlier, dict) and earlier.get("identity") == identity:
        return earlier
    return compute() | {"identity": identity}


def _write(stage: Stage, key: str, table: pa.Table) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    stage.run.write(key, sink.getvalue())
