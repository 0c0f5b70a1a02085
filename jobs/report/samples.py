"""Rows to look at: a few of every label beside the document each was written from, and refused ones."""

import heapq
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.ledger import read_ledger
from cluster.storage import Store

DOCUMENTS = "sources/documents.parquet"


@dataclass(frozen=True, slots=True)
class Source:
    """A document a row was written from, with its similarity to the seed; title may be empty."""

    id: str
    title: str
    text: str
    score: float | None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the dataset."""

    id: str
    label: str
    text: str
    sources: tuple[Source, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A rejected row."""

    id: str
    label: str
    reason: str
    text: str


@dataclass(order=True, slots=True)
class _Ranked:
    """Orders rows for a heap that keeps the smallest ids; ids are hashes, so that is a fair sample."""

    key: tuple[int, ...]
    row: dict[str, Any] = field(compare=False)


def sample_rows(run: Store, each: int) -> list[Row]:
    """Return up to `each` rows of every label with their documents, the same rows every time."""
    kept = _smallest(_dataset_rows(run), "label", each)
    documents = _documents(run, {id for row in kept for id in row.get("document_ids") or ()})
    return [_row(row, documents) for row in kept]


def sample_refused(run: Store, each: int) -> list[Refused]:
    """Return up to `each` rejected rows for every reason, the same rows every time."""
    kept = _smallest(_refused_rows(run), "reason", each)
    return [Refused(row["row_id"], row["label"], row["reason"], row["text"] or "") for row in kept]


def _dataset_rows(run: Store) -> Iterator[dict[str, Any]]:
    wanted = ("id", "label", "text", "document_ids", "document_scores")
    for key in run.list("data"):
        if not key.endswith(".parquet"):
            continue
        with pq.ParquetFile(run.fetch(key)) as file:
            names = _label_names(file)
            columns = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(columns=columns):
                for row in batch.to_pylist():
                    yield row | {"label": _named(row["label"], names), "row_id": row["id"]}


def _refused_rows(run: Store) -> Iterator[dict[str, Any]]:
    for table in read_ledger(run, ("row_id", "status", "reason", "labels", "text")):
        for row in table.filter(pc.field("status") == "rejected").to_pylist():
            yield row | {"label": ", ".join(row["labels"] or ())}


def _smallest(rows: Iterator[dict[str, Any]], group: str, each: int) -> list[dict[str, Any]]:
    """Return the rows with the smallest ids of every group, groups in order of name."""
    heaps: defaultdict[str, list[_Ranked]] = defaultdict(list)
    for row in rows:
        # Negated, so that the heap's smallest entry is the row to let go of.
        ranked = _Ranked(tuple(-byte for byte in row["row_id"].encode()), row)
        heap = heaps[str(row[group])]
        if len(heap) < each:
            heapq.heappush(heap, ranked)
        elif ranked > heap[0]:
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


def _documents(run: Store, ids: set[str]) -> dict[str, dict[str, Any]]:
    if not ids or not run.exists(DOCUMENTS):
        return {}
    rows = pq.read_table(run.fetch(DOCUMENTS), filters=pc.field("id").isin(sorted(ids))).to_pylist()
    return {row["id"]: row for row in rows}


def _row(row: dict[str, Any], documents: dict[str, dict[str, Any]]) -> Row:
    ids, scores = row.get("document_ids") or [], row.get("document_scores") or []
    sources = []
    for place, id in enumerate(ids):
        if document := documents.get(id):
            score = scores[place] if place < len(scores) else None
            sources.append(Source(id, document.get("title") or "", document.get("text") or "", score))
    return Row(row["row_id"], row["label"], row["text"] or "", tuple(sources))
