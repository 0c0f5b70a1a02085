"""Document reuse: how many rows each retrieved document served."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rows with a document, distinct documents, and how many documents served how many rows."""

    rows: int
    distinct: int
    histogram: Mapping[int, int]


def document_reuse(documents_of_rows: Iterable[Sequence[str]]) -> Reuse | None:
    """Count how often each document was written from; None when no row has one.

    documents_of_rows holds the document ids of each row; a document named twice for a row counts once.
    """
    served: Counter[str] = Counter()
    rows = 0
    for ids in documents_of_rows:
        served.update(set(ids))
        rows += bool(ids)
    if not rows:
        return None
    return Reuse(rows, len(served), dict(sorted(Counter(served.values()).items())))
