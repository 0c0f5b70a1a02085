"""What rephrasing came to: terms bound to a label in the rows it was given, and in the dataset it made."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from cluster.rundir import update_metrics
from jobs.stage import Stage
from synth.methods.rephrase import ORIGINAL, Rephrase, RephraseSettings, by_label
from synth.metrics.bound_terms import BoundTerm, weigh
from synth.metrics.terms import terms_in
from synth.preparation import read_sources


def measure_bias(stage: Stage) -> None:
    """Record bound terms before and after, by the same measure, and tell them; only after rephrasing.

    `given` is measured on all rows given, `after` on the dataset, and `before` on what the dataset's rows
    were: where there are fewer of them, fewer terms reach significance for that alone.
    """
    settings, sources = stage.recipe.method, read_sources(stage.run)
    if not isinstance(settings, RephraseSettings) or sources is None:
        return
    method, rows = settings.build(stage.task), sources["rows"].to_pylist()
    terms = by_label([BoundTerm(**row) for row in sources["terms"].to_pylist()])
    texts, originals, labels = _dataset(stage, settings.field)
    given = [dict(row["fields"])[settings.field] for row in rows], [row["label"] for row in rows]
    measured = {
        "given": _measured(method, *given, terms),
        "before": _measured(method, originals, labels, terms),
        "after": _measured(method, texts, labels, terms),
    }
    update_metrics(stage.run, bound_terms=measured)
    stage.progress.step("measured_bias", _line(**measured), **{p: _counts(m) for p, m in measured.items()})


def _measured(
    method: Rephrase, texts: Sequence[str], labels: Sequence[str], terms: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """Return how many rows carry the terms that were to go, how these are bound, and what is found bound."""
    pairs = zip(texts, labels, strict=True)
    bound = [each for each in method.bound(texts, labels) if each.inside]
    to_go = weigh(texts, labels, [(term, label) for label, some in terms.items() for term in some])
    return {
        "rows": len(texts),
        "carrying": sum(bool(terms_in(text, terms.get(label, ()))) for text, label in pairs),
        "to_go": [_told(each) for each in to_go],
        "bound": [_told(each) for each in bound],
    }


def _told(bound: BoundTerm) -> dict[str, Any]:
    return bound._asdict() | {"odds": round(bound.odds, 2)}


def _counts(measured: Mapping[str, Any]) -> dict[str, int]:
    return {"rows": measured["rows"], "carrying": measured["carrying"], "bound": len(measured["bound"])}


def _line(given: Mapping[str, Any], before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    return (
        f"Bound terms: {len(given['to_go'])}, in {given['carrying']} of {given['rows']} rows given; of the "
        f"dataset's {after['rows']}, {before['carrying']} had one and {after['carrying']} have; "
        f"{len(before['bound'])} were bound in these, {len(after['bound'])} are"
    )


def _dataset(stage: Stage, field: str) -> tuple[list[str], list[str], list[str]]:
    """Return a field of the dataset's rows, as it was before, and their label names."""
    texts, labels, originals = list[str](), list[str](), list[str]()
    for key in stage.run.list("data"):
        with stage.run.open(key) as file:
            shard = pq.read_table(file, columns=[field, "label", "attributes"])
        texts += shard[field].to_pylist()
        labels += [stage.task.labels[number] for number in shard["label"].to_pylist()]
        originals += [json.loads(told)[f"{ORIGINAL}{field}"] for told in shard["attributes"].to_pylist()]
    return texts, originals, labels
