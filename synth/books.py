"""The books of a run: what was drawn, returned, accepted and kept must add up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from cluster.errors import BooksError
from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.curate import Dataset


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
    prompt_tokens: int
    reply_tokens: int

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
            "prompt_tokens": self.prompt_tokens,
            "reply_tokens": self.reply_tokens,
        }


_COLUMNS = ("item_id", "status", "reason", "labels", "prompt_tokens", "reply_tokens")


def balance(store: Store, dataset: Dataset, drawn: int, unfinished: int) -> Books:
    """Count the ledger and the dataset files and compare; BooksError says where they differ.

    drawn and unfinished are the planner's own counts over the whole run, earlier sittings included.
    """
    settled: set[str] = set()
    failed: set[str] = set()
    rows, rejected, tokens = Counter[str](), Counter[str](), Counter[str]()
    returned = 0
    per_label: dict[str, Counter[str]] = {label: Counter() for label in dataset.per_label}
    for table in read_ledger(store, _COLUMNS):
        for row in table.to_pylist():
            tokens.update(prompt=row["prompt_tokens"] or 0, reply=row["reply_tokens"] or 0)
            if row["status"] == "prepared":
                continue
            (failed if row["status"] == "failed" else settled).add(row["item_id"])
            returned += row["status"] != "failed"
            rows[row["status"]] += 1
            for label in row["labels"]:
                per_label[label][row["status"]] += 1
            if row["status"] == "rejected":
                rejected[row["reason"]] += 1
    books = Books(
        items=Items(drawn, len(settled), len(failed), unfinished),
        returned=returned,
        accepted=rows["accepted"],
        rejected=dict(sorted(rejected.items())),
        surplus=dataset.surplus,
        per_label=per_label,
        rows=_rows_written(store),
        prompt_tokens=tokens["prompt"],
        reply_tokens=tokens["reply"],
    )
    _check(books, dataset)
    return books


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
    return sum(pq.read_metadata(store.fetch(key)).num_rows for key in store.list("data"))
