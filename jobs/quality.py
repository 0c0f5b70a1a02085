"""The metrics of a run's dataset: what the recipe's `metrics` asks, beside gold test rows and seeds.

Part of `nightshift evaluate`.
"""

from collections.abc import Iterable

import pyarrow as pa

from cluster.rundir import read_metrics
from jobs.stage import Stage
from jobs.training_rows import dataset_rows, gold_table
from synth.measuring import Answer, Sides, measure_all
from synth.metrics.metric import Texts, drawn
from synth.task import Gold


def quality(stage: Stage) -> dict[str, Answer]:
    """Return the answers of every metric that is on, for `metrics.json`; what did not change is kept."""
    settings = stage.recipe.metrics
    if settings is None:
        return {}
    index = stage.recipe.index
    chosen = settings.chosen(index.encoder if index is not None else None)
    sides: Sides = {
        "rows": _texts(dataset_rows(stage)),
        "gold": _gold(stage, stage.plan.test),
        "seeds": _gold(stage, stage.task.seeds),
    }
    earlier = read_metrics(stage.run).get("quality", {})
    answers = measure_all(chosen, sides, stage.run, earlier, stage.progress.say)
    for name, answer in answers.items():
        if isinstance(answer, str):
            stage.progress.say(f"Metric {name}: {answer}")
    return answers


def _gold(stage: Stage, rows: Iterable[Gold]) -> Texts:
    return _texts(gold_table(stage, rows))


def _texts(rows: pa.Table) -> Texts:
    labels = rows["label"].to_pylist()
    several = [(label,) if isinstance(label, str) else tuple(label) for label in labels]
    return drawn(rows["id"].to_pylist(), rows["text"].to_pylist(), several)
