"""The dataset card: front-matter that makes `load_dataset(<run>)` work, and what a reader should know."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml
from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from cluster.rundir import read_metrics, read_run
from cluster.settings import flatten
from cluster.storage import Store
from jobs.documents import document_tables
from jobs.report import wording
from jobs.report.costs import read_costs, read_stop
from jobs.report.counts import read_acceptance, read_label_rows, read_labels, read_reasons
from jobs.report.features import read_features
from jobs.report.markdown import code, escaped, verbatim
from jobs.report.quality import figures
from jobs.report.reproduce import REPRODUCE
from jobs.report.scores import read_scores
from jobs.report.worries import worries

CARD = "README.md"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_SIZES_ABOVE = ((10_000_000, "1M<n<10M"), (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"))


def write_card(run: Store, license: str = "unknown") -> str:
    """Write the dataset card `README.md` and return where it is.

    license is an identifier of the Hugging Face hub, such as `cc-by-sa-4.0`.
    """
    record, metrics = read_run(run), read_metrics(run)
    front = yaml.safe_dump(
        _front_matter(run, record, metrics, license), sort_keys=False, allow_unicode=True, width=1000
    )
    body = environment().get_template("card.md.j2").render(_context(run, record, metrics, license))
    run.write(CARD, f"---\n{front}---\n\n{body}".encode())
    return f"{run.url}/{CARD}"


def environment() -> ImmutableSandboxedEnvironment:
    """Return the templates of Markdown cards: whatever a value holds, it is shown as text."""
    environment = ImmutableSandboxedEnvironment(
        loader=PackageLoader("jobs.report"),
        autoescape=False,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name in ("percent", "count", "decimal", "interval", "spread"):
        environment.filters[name] = getattr(wording, name)
    environment.filters |= {"code": code, "verbatim": verbatim}
    return environment


def _front_matter(
    run: Store, record: Mapping[str, Any], metrics: Mapping[str, Any], license: str
) -> dict[str, Any]:
    dataset, task = metrics.get("dataset") or {}, metrics.get("task") or {}
    front: dict[str, Any] = {
        "pretty_name": str(task.get("name") or record.get("run") or "A synthetic dataset"),
        "license": license,
        "task_categories": ["text-classification"],
        "tags": ["synthetic", "nightshift"],
    }
    if "rows" in dataset:
        front["size_categories"] = [_size(int(dataset["rows"]))]
    if features := read_features(run):
        files = [{"split": "train", "path": "data/train-*.parquet"}]
        front["configs"] = [{"config_name": "default", "data_files": files}]
        front["dataset_info"] = {"config_name": "default", "features": features}
    return front


def _size(rows: int) -> str:
    return next((name for limit, name in (*_SIZES, *_SIZES_ABOVE) if rows < limit), "n>1B")


def _context(
    run: Store, record: Mapping[str, Any], metrics: Mapping[str, Any], license: str
) -> dict[str, Any]:
    synthesis = metrics.get("synthesis") or {}
    resolved = record.get("resolved") or {}
    labels = read_labels(metrics)
    scores = read_scores(metrics, list(labels))
    return {
        "name": str(record.get("run") or "a run"),
        "task": metrics.get("task") or {},
        "labels": labels,
        "label_rows": read_label_rows(metrics),
        "dataset": metrics.get("dataset") or {},
        "method": synthesis.get("method"),
        "teacher": synthesis.get("teacher"),
        "revision": synthesis.get("revision"),
        "settings": _settings(resolved),
        "rows": synthesis.get("rows") or {},
        "acceptance": read_acceptance(metrics),
        "reasons": read_reasons(metrics),
        "stalled": sorted((synthesis.get("stalled") or {}).items()),
        "stopped": read_stop(metrics),
        "costs": read_costs(metrics),
        "scores": scores,
        "worries": worries(metrics, scores),
        "figures": figures(metrics),
        "outside": PurePath(str((metrics.get("dataset") or {}).get("from") or "")).name,
        "majority": (metrics.get("baselines") or {}).get("majority") or {},
        "test_rows": (metrics.get("test") or {}).get("rows"),
        "grounding": metrics.get("grounding") or {},
        "from_documents": bool(document_tables(run)),
        "corpus": PurePath(str((resolved.get("corpus") or {}).get("path") or "")).name,
        "license": license,
        "created": record.get("created"),
        "reproduce": Markup(REPRODUCE),
    }


def _settings(resolved: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings of method and targets, which say how rows came about, as key and wording."""
    chosen = {
        name: resolved[name]
        for name in ("method", "targets")
        # A dataset from elsewhere has neither.
        if isinstance(resolved.get(name), Mapping) and not resolved.get("dataset")
    }
    flat = flatten(chosen) if chosen else {}
    return [(key, wording.plain(value)) for key, value in sorted(flat.items()) if value is not None]
