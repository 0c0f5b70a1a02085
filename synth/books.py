"""The books of a run: what was drawn, returned, accepted and kept must add up."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import BooksError
from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.curate import Dataset
from synth.rows import TOKENS, Tokens


@dataclass(frozen=True, slots=True)
class Items:
    """Items of the plan by what became of them."""

    drawn: int
    settled: int
    failed: int
    unfinished: int


@dataclass(frozen=True, slots=True)
class Books:
    """Counts read back from the ledger and the dataset files, not from what the driver believes."""

    items: Items
    returned: int
    accepted: int
    rejected: Mapping[str, int]
    surplus: Mapping[str, int]
    per_label: Mapping[str, Mapping[str, int]]
    rows: int
    tokens: Tokens

    def as_json(self) -> dict[str, Any]:
        """Return the `synthesis` section of metrics.json that these books fill."""
        return {
            "items": asdict(self.items),
            "rows": {
                "returned": self.returned,
                "accepted": self.accepted,
                "rejected": dict(self.rejected),
                "surplus": dict(self.surplus),
                "per_label": {label: dict(counts) for label, counts in self.per_label.items()},
            },
            **{name: n for name, n in zip(TOKENS, self.tokens, strict=True) if n or "judge" not in name},
        }


_COLUMNS = ("item_id", "status", "reason", "labels", *TOKENS)


class _Tally:
    """Sums over the parts of a ledger; items are counted part by part, for none has rows in two of them."""

    def __init__(self, labels: Iterable[str]) -> None:
        self.items, self.rows = Counter[str](), Counter[str]()
        self.rejected, self.tokens = Counter[str](), Tokens()
        self.per_label = {label: Counter[str]() for label in labels}

    def add(self, part: pa.Table) -> None:
        """Count the rows of a part; of what was prepared, which is no item, the tokens only."""
        self.tokens = self.tokens.plus(Tokens.of(part))
        failed, prepared = pc.field("status") == "failed", pc.field("status") == "prepared"
        for kind, which in (("failed", failed), ("settled", ~failed & ~prepared)):
            self.items[kind] += pc.count_distinct(part.filter(which)["item_id"]).as_py()
        for status, count in _counts(part.filter(~prepared)["status"]):
            rows = part.filter(pc.field("status") == status)
            self.rows[status] += count
            for label, times in _counts(pc.list_flatten(rows["labels"])):
                self.per_label[label][status] += times
            if status == "rejected":
                self.rejected.update(dict(_counts(rows["reason"])))


def balance(store: Store, dataset: Dataset, drawn: int, unfinished: int) -> Books:
    """Count the ledger and the dataset files and compare; BooksError says where they differ.

    drawn and unfinished are the planner's own counts over the whole run, earlier sittings included.
    """
    tally = _Tally(dataset.per_label)
    for part in read_ledger(store, _COLUMNS):
        tally.add(part)
    books = Books(
        items=Items(drawn, tally.items["settled"], tally.items["failed"], unfinished),
        returned=tally.rows.total() - tally.rows["failed"],
        accepted=tally.rows["accepted"],
        rejected=dict(sorted(tally.rejected.items())),
        surplus=dataset.surplus,
        per_label=tally.per_label,
        rows=_rows_written(store),
        tokens=tally.tokens,
    )
    _check(books, dataset)
    return books


def _counts(column: pa.ChunkedArray) -> list[tuple[str, int]]:
    return [(each["values"], each["counts"]) for each in pc.value_counts(column).to_pylist()]


def _check(books: Books, dataset: Dataset) -> None:
    items = books.items
    sums = {
        "items: drawn = settled + failed + unfinished": (
            items.drawn,
            items.settled + items.failed + items.unfinished,
        ),
        "rows: returned = accepted + rejected": (
            books.returned,
            books.accepted + sum(books.rejected.values()),
        ),
        "rows: accepted = in the dataset + surplus": (
            books.accepted,
            books.rows + sum(books.surplus.values()),
        ),
        "dataset: rows in the files = rows chosen": (books.rows, dataset.rows),
    }
    wrong = [f"{name}: {left} is not {right}" for name, (left, right) in sums.items() if left != right]
    if wrong:
        raise BooksError("the books do not balance; " + "; ".join(wrong))


def _rows_written(store: Store) -> int:
    rows = 0
    for key in store.list("data"):
        with store.open(key) as file:
            rows += pq.read_metadata(file).num_rows
    return rows
