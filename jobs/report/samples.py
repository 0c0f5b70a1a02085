"""Rows to look at: a few of every label beside the document each was written from, and refused ones."""

import heapq
import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.ledger import read_ledger
from cluster.storage import Store
from jobs.documents import read_documents

_SHOWN = ("id", "document_ids", "document_scores")


@dataclass(frozen=True, slots=True)
class Source:
    """A document a row was written from, with its similarity to the seed; title may be empty."""

    id: str
    title: str
    text: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the dataset, perhaps with the gold row that is nearest to it."""

    id: str
    label: str
    text: str
    sources: tuple[Source, ...] = ()
    nearest: Source | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A rejected row."""

    id: str
    label: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class _Ranked:
    """Puts the largest id first in a heap that keeps the smallest; ids are hashes, so the sample is fair."""

    rank: tuple[bool, str]
    row: dict[str, Any]

    def __lt__(self, other: "_Ranked") -> bool:
        return self.rank > other.rank


def sample_rows(run: Store, each: int, nearest: Mapping[str, Source] | None = None) -> list[Row]:
    """Return up to `each` rows of every label with their documents, the same rows every time.

    nearest holds gold rows by the ids of the rows that they are nearest to: these rows come first.
    """
    beside = nearest or {}
    chosen = _smallest(_labelled_ids(run), "label", each, beside.keys())
    full = _full_rows(run, [row["row_id"] for row in chosen])
    documents = read_documents(run, {id for row in full.values() for id in row.get("document_ids") or ()})
    rows = [_row(full[row["row_id"]] | row, documents) for row in chosen]
    return [replace(row, nearest=beside.get(row.id)) for row in rows]


def rows_by_id(run: Store, ids: Collection[str]) -> dict[str, Row]:
    """Return rows of the dataset by their ids, without their documents; those that it does not hold lack."""
    if not ids:
        return {}
    labels = {row["row_id"]: row["label"] for row in _labelled_ids(run) if row["row_id"] in ids}
    full = _full_rows(run, list(labels))
    return {id: Row(id, labels[id], row["text"]) for id, row in full.items()}


def sample_refused(run: Store, each: int) -> list[Refused]:
    """Return up to `each` rejected rows for every reason, the same rows every time."""
    kept = _smallest(_refused_rows(run), "reason", each)
    return [Refused(row["row_id"], row["label"], row["reason"], row["text"] or "") for row in kept]


def _shards(run: Store) -> list[Path]:
    return [run.fetch(key) for key in run.list("data") if key.endswith(".parquet")]


def _labelled_ids(run: Store) -> Iterator[dict[str, Any]]:
    for path in _shards(run):
        with pq.ParquetFile(path) as file:
            names = _label_names(file)
            for batch in file.iter_batches(columns=["id", "label"]):
                for id, label in zip(batch["id"].to_pylist(), batch["label"].to_pylist(), strict=True):
                    yield {"row_id": id, "label": _named(label, names)}


def _full_rows(run: Store, ids: list[str]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for path in _shards(run):
        names = pq.read_schema(path).names
        # The text fields of an example stand before its label.
        fields = names[: names.index("label")]
        columns = [*fields, *(name for name in _SHOWN if name in names)]
        table = pq.read_table(path, columns=columns, filters=pc.field("id").isin(ids))
        rows |= {row["id"]: row | {"text": _text(row, fields)} for row in table.to_pylist()}
    return rows


def _text(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    if len(fields) == 1:
        return row[fields[0]] or ""
    return "\n".join(f"{name}: {row[name]}" for name in fields)


def _refused_rows(run: Store) -> Iterator[dict[str, Any]]:
    for table in read_ledger(run, ("row_id", "status", "reason", "labels", "text")):
        for row in table.filter(pc.field("status") == "rejected").to_pylist():
            yield row | {"label": ", ".join(row["labels"] or ())}


def _smallest(
    rows: Iterator[dict[str, Any]], group: str, each: int, first: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return the rows with the smallest ids of every group, groups in order of name; some ids go first."""
    heaps: defaultdict[str, list[_Ranked]] = defaultdict(list)
    for row in rows:
        heap = heaps[str(row[group])]
        ranked = _Ranked((row["row_id"] not in first, row["row_id"]), row)
        if len(heap) < each:
            heapq.heappush(heap, ranked)
        elif heap[0] < ranked:
            heapq.heapreplace(heap, ranked)
    return [ranked.row for name in sorted(heaps) for ranked in sorted(heaps[name], reverse=True)]


def _label_names(file: pq.ParquetFile) -> list[str]:
    metadata = file.schema_arrow.metadata or {}
    features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    label = features.get("label", {})
    return list(label.get("names") or label.get("feature", {}).get("names") or ())


def _named(label: Any, names: list[str]) -> str:
    if isinstance(label, list):
        return ", ".join(_named(one, names) for one in label)
    return names[label] if isinstance(label, int) and 0 <= label < len(names) else str(label)


def _row(row: dict[str, Any], documents: dict[str, dict[str, Any]]) -> Row:
    ids, scores = row.get("document_ids") or [], row.get("document_scores") or []
    sources = []
    for place, id in enumerate(ids):
        if document := documents.get(id):
            score = scores[place] if place < len(scores) else None
            sources.append(Source(id, document.get("title") or "", document.get("text") or "", score))
    return Row(row["row_id"], row["label"], row["text"], tuple(sources))
