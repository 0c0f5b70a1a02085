"""The metrics of a run's dataset: what the recipe's `metrics` asks, beside gold test rows and seeds.

Part of `nightshift evaluate`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from cluster.rundir import read_metrics
from jobs.report.findings import SHOWN
from jobs.stage import Stage
from jobs.training_rows import dataset_rows, gold_table
from retrieval.tables import write_table
from synth.measuring import Answer, Sides, measure_all
from synth.metrics.metric import Row, Texts, drawn
from synth.task import Gold

_SHOWN_ROWS = pa.schema([("id", pa.string()), ("text", pa.string()), ("labels", pa.list_(pa.string()))])


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
    _keep_shown(stage, answers, (*sides["gold"].rows(), *sides["seeds"].rows()))
    for name, answer in answers.items():
        if isinstance(answer, str):
            stage.progress.say(f"Metric {name}: {answer}")
    return answers


def _keep_shown(stage: Stage, answers: Mapping[str, Answer], rows: Iterable[Row]) -> None:
    """Keep the gold rows and seeds that answers name, as the report shows them."""
    named = set(_strings(list(answers.values())))
    shown = {id: {"id": id, "text": text, "labels": list(labels)} for id, text, labels in rows if id in named}
    write_table(stage.run, SHOWN, pa.Table.from_pylist(list(shown.values()), _SHOWN_ROWS))


def _strings(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(each)


def _gold(stage: Stage, rows: Iterable[Gold]) -> Texts:
    return _texts(gold_table(stage, rows))


def _texts(rows: pa.Table) -> Texts:
    labels = rows["label"].to_pylist()
    several = [(label,) if isinstance(label, str) else tuple(label) for label in labels]
    return drawn(rows["id"].to_pylist(), rows["text"].to_pylist(), several)
