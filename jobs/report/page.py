"""The report page: one HTML file that loads nothing and needs no script."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import PackageLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from cluster.rundir import read_metrics, read_run
from cluster.settings import flatten
from cluster.storage import Store
from jobs.report import wording
from jobs.report.charts import accuracy_chart, confusion_chart, fill_chart, reliability_chart
from jobs.report.costs import read_costs, read_fleet, read_limits, read_stop, read_targets
from jobs.report.counts import read_books, read_label_rows, read_labels, read_reasons, read_reuse, read_stages
from jobs.report.datamap import read_knowledge
from jobs.report.findings import bound, findings, nearest_gold, read_gold
from jobs.report.headline import missing_parts, summary, tiles
from jobs.report.quality import figures, not_computed
from jobs.report.quality_charts import entity_chart, length_chart, map_chart, repetition_chart
from jobs.report.reproduce import REPRODUCE
from jobs.report.rounds import read_rounds
from jobs.report.samples import sample_refused, sample_rows
from jobs.report.scores import Score, read_scores
from jobs.report.worries import worries

PAGE = "report.html"
ROWS_EACH = 3
REFUSED_EACH = 3
MOST_SAMPLES = 150


def write_report(run: Store) -> str:
    """Write `report.html` from what the run folder holds and return where it is.

    A section whose data is not there is left out and named as missing. The same folder gives the same page.
    """
    record, metrics = read_run(run), read_metrics(run)
    page = environment().get_template("page.html.j2").render(_context(run, record, metrics))
    run.write(PAGE, page.encode())
    return f"{run.url}/{PAGE}"


def environment() -> ImmutableSandboxedEnvironment:
    """Return the templates of pages: whatever a value holds, it is shown as text."""
    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("jobs.report"),
        autoescape=select_autoescape(["html.j2"], default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("percent", "count", "decimal", "duration", "interval", "spread", "plain", "excerpt"):
        environment.filters[name] = getattr(wording, name)
    return environment


def _context(run: Store, record: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    labels = read_labels(metrics)
    scores, label_rows = read_scores(metrics, list(labels)), read_label_rows(metrics)
    task, gold = metrics.get("task") or {}, read_gold(run)
    each = max(1, min(ROWS_EACH, MOST_SAMPLES // max(1, len(labels))))
    return {
        "name": str(record.get("run") or "a run"),
        "created": str(record.get("created") or ""),
        "instruction": str(task.get("instruction") or ""),
        "labels": list(labels),
        "summary": summary(metrics, scores),
        "tiles": tiles(metrics, scores),
        "missing": missing_parts(record, metrics, scores),
        "scores": scores,
        "accuracy_chart": accuracy_chart(scores, _majority(metrics)),
        "test_rows": (metrics.get("test") or {}).get("rows"),
        "label_rows": label_rows,
        "fill_chart": fill_chart(label_rows, read_targets(metrics)),
        "stalled": sorted(((metrics.get("synthesis") or {}).get("stalled") or {}).items()),
        "stopped": read_stop(metrics),
        "costs": read_costs(metrics),
        "limits": read_limits(metrics),
        "fleet": read_fleet(metrics),
        "reasons": _with_shares(read_reasons(metrics)),
        "stages": read_stages(metrics),
        "confusion_chart": confusion_chart(scores[0], list(labels)) if scores else None,
        "reliability_chart": reliability_chart(scores[0]) if scores else None,
        "confused": _confused(scores, list(labels)),
        "rounds": read_rounds(metrics),
        "causal": bool(scores) and metrics["students"][scores[0].name].get("kind") == "causal",
        "knowledge": read_knowledge(run, metrics),
        "rows": sample_rows(run, each, nearest_gold(metrics, gold)),
        "outside": bool((metrics.get("dataset") or {}).get("from")),
        "worries": worries(metrics, scores),
        "figures": figures(metrics),
        "not_computed": not_computed(metrics),
        "quality_charts": [
            ("repetition", repetition_chart(metrics)),
            ("lengths", length_chart(metrics)),
            ("entity-chart", entity_chart(metrics)),
        ],
        "map_chart": map_chart(metrics),
        "findings": findings(run, metrics, gold),
        "bound": bound(run, metrics),
        "refused": sample_refused(run, REFUSED_EACH),
        "books": read_books(metrics),
        "facts": _facts(record, metrics),
        "settings": sorted(flatten(record["resolved"]).items()) if record.get("resolved") else [],
        "versions": sorted((record.get("versions") or {}).items()),
        "grounding": metrics.get("grounding"),
        "reuse": read_reuse(metrics),
        "documents": metrics.get("documents"),
        "reproduce": REPRODUCE,
    }


def _majority(metrics: Mapping[str, Any]) -> float | None:
    return ((metrics.get("baselines") or {}).get("majority") or {}).get("accuracy")


def _with_shares(reasons: Sequence[tuple[str, int]]) -> list[tuple[str, int, float]]:
    total = sum(number for _, number in reasons)
    return [(reason, number, number / total) for reason, number in reasons if total]


def _confused(scores: Sequence[Score], labels: Sequence[str]) -> list[tuple[str, str, int]]:
    pairs = scores[0].confused[:5] if scores and len(scores[0].confusion) == len(labels) else []
    return [(labels[gold], labels[predicted], number) for gold, predicted, number in pairs]


def _facts(record: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was made how, as pairs of a name and its wording."""
    synthesis, dataset = metrics.get("synthesis") or {}, metrics.get("dataset") or {}
    tokens, seconds = synthesis.get("reply_tokens"), synthesis.get("seconds")
    speed = f"{tokens / seconds:,.0f} per second" if tokens and seconds else None
    facts = {
        "Method": synthesis.get("method"),
        "Teacher": synthesis.get("teacher"),
        "Teacher revision": synthesis.get("revision"),
        "Time to synthesize": wording.duration(seconds) if seconds is not None else None,
        "Prompt tokens": _counted(synthesis.get("prompt_tokens")),
        "Reply tokens": _counted(tokens),
        "Reply tokens, speed": speed,
        "Words in a row, on average": dataset.get("mean_words"),
        "Digest of the dataset": dataset.get("digest"),
        "Revision of the code": record.get("revision"),
    }
    return [(name, str(value)) for name, value in facts.items() if value is not None]


def _counted(number: int | None) -> str | None:
    return None if number is None else wording.count(number)
