"""What earlier sittings of a run left in its ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import RunError
from cluster.ids import pack
from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.near import packed
from synth.records import Reply
from synth.rows import TOKENS, Tokens
from synth.settled import Labels, LedgerRows, Settled

_COUNTED = ("status", "round", "position", "labels", "text_hash", *TOKENS)
_REPLIES = ("status", "text", "reason", "prompt_tokens", "reply_tokens")


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier sittings settled, the calls of `prepare` they answered, and what all of it cost.

    Tokens are those of every row that counts: accepted, rejected, failed and prepared.
    """

    settled: Settled
    prepared: Mapping[str, Reply]
    tokens: Tokens


def read_past(store: Store, labels: Sequence[str], signed: bool = False) -> Past:
    """Read a run's ledger, signatures only when they are needed; labels are the task's.

    RunError when rows have other labels, or a position two items.
    """
    intake = _Intake(store, labels)
    for table in read_ledger(store, (*_COUNTED, "signature") if signed else _COUNTED):
        intake.add(table)
    return Past(intake.settled(), _replies(store, intake.prepared), intake.tokens)


class _Intake:
    """Takes in tables of ledger rows as columns of numbers."""

    def __init__(self, store: Store, labels: Sequence[str]) -> None:
        self.prepared = self.failed = 0
        self.tokens = Tokens()
        self._store = store
        self._names = pa.array(list(labels), pa.string())
        self._labels = tuple(labels)
        self._labelings: list[Labels] = []
        self._numbers: dict[str, int] = {}
        self._tables: dict[int, list[LedgerRows]] = {}

    def add(self, table: pa.Table) -> None:
        self.tokens = self.tokens.plus(Tokens.of(table))
        if table["position"].null_count:
            # Calls of `prepare` have no place in the plan.
            self.prepared += pc.sum(pc.equal(table["status"], "prepared")).as_py() or 0
            table = table.filter(table["position"].is_valid())
        if not table.num_rows:
            return
        column = {name: table[name].combine_chunks() for name in ("item_id", "status", "round", "labels")}
        # Fails are one row each.
        self.failed += pc.sum(pc.equal(column["status"], "failed")).as_py() or 0
        rows = LedgerRows(
            pack(column["item_id"]),
            table["position"].to_numpy(),
            self._labelings_of(column["labels"]),
            pc.equal(column["status"], "accepted").to_numpy(zero_copy_only=False),
            table["text_hash"].fill_null(0).to_numpy(),
            packed(table["signature"] if "signature" in table.column_names else None, table.num_rows),
        )
        rounds = column["round"].to_numpy()
        for number in np.unique(rounds).tolist():
            mine = rows if (rounds == number).all() else rows.where(rounds == number)
            self._tables.setdefault(number, []).append(mine)

    def settled(self) -> Settled:
        """Return what was taken in, and forget it."""
        rounds = {}
        while self._tables:
            number, tables = self._tables.popitem()
            rounds[number] = LedgerRows.joined(tables)
        return Settled(rounds, self._labelings, self.failed)

    def _labelings_of(self, lists: pa.ListArray) -> npt.NDArray[np.int32]:
        """Number the labels of every row; a combination of labels gets its number when it is first seen."""
        names = lists.flatten()
        numbers = pc.index_in(names, value_set=self._names)
        if numbers.null_count:
            raise RunError(
                f"{self._store.url}/ledger: has rows of {names.filter(numbers.is_null())[0]}, which is no "
                "label of the task; begin another run with --set run=NAME"
            )
        ends = np.append(0, np.cumsum(lists.value_lengths().to_numpy()))
        texts = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), numbers.cast(pa.string()))
        coded = pc.binary_join(texts, ",").dictionary_encode()
        mine = [self._number(text) for text in coded.dictionary.to_pylist()]
        return np.array(mine, np.int32)[coded.indices.to_numpy()]

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._numbers[text] = len(self._labelings)
            self._labelings.append(tuple(self._labels[int(n)] for n in text.split(",") if n))
        return self._numbers[text]


def _replies(store: Store, count: int) -> dict[str, Reply]:
    """Read so many prepared replies; they stand at the beginning of the ledger."""
    replies: dict[str, Reply] = {}
    tables = read_ledger(store, _REPLIES) if count else iter(())
    for table in tables:
        for row in table.filter(pc.field("status") == "prepared").to_pylist():
            tokens = row["prompt_tokens"], row["reply_tokens"]
            replies[row["item_id"]] = Reply(row["text"], row["reason"], *tokens)
        if len(replies) >= count:
            break
    return replies
