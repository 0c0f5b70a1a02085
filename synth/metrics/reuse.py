"""Document reuse: how many rows each retrieved document served."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rows with a document, distinct documents, and how many documents served how many rows."""

    rows: int
    distinct: int
    histogram: Mapping[int, int]


def document_reuse(documents_of_rows: Iterable[Sequence[str]]) -> Reuse | None:
    """Count how often each document was written from; None when no row has one.

    documents_of_rows holds the document ids of each row; a document named twice for a row counts once.
    Memory: 8 bytes for each use of a document; that ids differ in 64 bits of hash is taken for granted.
    """
    served, rows = array("q"), 0
    for ids in documents_of_rows:
        served.extend(map(hash, set(ids)))
        rows += bool(ids)
    if not rows:
        return None
    _, uses = np.unique(np.frombuffer(served, np.int64), return_counts=True)
    times, documents = np.unique(uses, return_counts=True)
    return Reuse(rows, len(uses), dict(zip(times.tolist(), documents.tolist(), strict=True)))
