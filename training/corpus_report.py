"""What a prediction of a corpus comes to: counted as it goes, and checked at its end."""

import json
import math
from collections import Counter as Tally
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError, RunError
from cluster.storage import Store
from retrieval.settings import CorpusSettings
from training.corpus_plan import DATA, CorpusPlan, SplitRead, split_read
from training.part_predictor import label_counts, predicted_labels

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class CorpusReport:
    """What a prediction came to.

    exclusive says that a row has exactly one label; counts, how often each label was given. predicted and
    tokens are what this call did, seconds those from the start of its first part to the end of its last.
    """

    labels: tuple[str, ...]
    exclusive: bool
    rows: int
    counts: dict[str, int]
    refused: dict[str, int]
    predicted: int = 0
    tokens: int = 0
    seconds: float = 0.0


def finished_report(out: Store) -> CorpusReport:
    """Return the report of a prediction that is complete, which has nothing left to do."""
    known = json.loads(out.read(MANIFEST))
    return CorpusReport(
        tuple(known["labels"]), known["exclusive"], known["rows"], known["counts"], known["refused"]
    )


class Books:
    """What has been done so far."""

    def __init__(self, splits: int) -> None:
        self.splits = splits
        self.rows = self.predicted = self.tokens = 0
        self.counts: Tally[str] = Tally()
        self.first, self.last = math.inf, 0.0

    def add_earlier(self, part: pa.Table) -> None:
        """Count a part that an earlier call did."""
        self.rows += part.num_rows
        self.counts.update(label_counts(part))

    def add(self, done: Mapping[str, Any]) -> None:
        """Count what an actor did: a part, or, without a key, the end of a split."""
        if not done["key"]:
            self.splits += 1
            return
        self.rows += done["rows"]
        self.predicted += done["rows"]
        self.tokens += done["tokens"]
        self.counts.update(json.loads(done["counts"]))
        self.first, self.last = min(self.first, done["started"]), max(self.last, done["ended"])


def closed(out: Store, plan: CorpusPlan, corpus: CorpusSettings, books: Books) -> CorpusReport:
    """Return the report of what is done, if all is and little was refused. Errors: DataError, RunError."""
    found = [read for split in range(len(plan.splits)) if (read := split_read(out, split)) is not None]
    rows, parts = sum(each.rows for each in found), sum(each.parts for each in found)
    keys = out.list(DATA)
    if len(found) < len(plan.splits) or parts != len(keys) or rows != books.rows:
        raise RunError(f"{out.url}: {books.rows} of {rows} rows are predicted; run the same command again")
    refused = _refused(found, rows, corpus)
    if not keys:
        raise DataError(f"corpus {corpus.path}: holds no documents; give a file with rows")
    with out.open(keys[0]) as file:
        labels, exclusive = predicted_labels(pq.read_schema(file))
    return CorpusReport(
        labels=labels,
        exclusive=exclusive,
        rows=rows,
        counts={label: books.counts[label] for label in labels},
        refused=refused,
        predicted=books.predicted,
        tokens=books.tokens,
        seconds=round(max(0.0, books.last - books.first), 3),
    )


def _refused(found: Sequence[SplitRead], rows: int, corpus: CorpusSettings) -> dict[str, int]:
    """Return the refused rows by reason; DataError when they are too many."""
    refused: Tally[str] = Tally()
    for each in found:
        refused.update(each.refused)
    bad = refused.total()
    if bad > corpus.refused_share * (rows + bad):
        examples = "; ".join([example for each in found for example in each.examples][:3])
        raise DataError(
            f"corpus {corpus.path}: {bad} of {rows + bad} rows were refused, more than corpus.refused_share "
            f"{corpus.refused_share:g} allows: {examples}; mend them"
        )
    return dict(refused)
