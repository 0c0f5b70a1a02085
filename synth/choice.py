"""Which rows of a ledger make the dataset: accepted rows judged in plan order, their columns kept packed."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.quota import Candidate, Quota

_LOT = 10_000
_JUDGED = ("status", "round", "position", "piece", "labels", "text_hash")
_PACKED = {
    "row": np.int64,
    "round": np.int32,
    "position": np.int64,
    "piece": np.int32,
    "text_hash": np.int64,
    "labels": np.int32,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows of a dataset in plan order, each by its number in the ledger; what was left, by reason."""

    rows: NDArray[np.int64]
    per_label: Mapping[str, int]
    surplus: Mapping[str, int]
    single: bool
    """Whether every row has one label."""


def choose(store: Store, targets: Mapping[str, int]) -> Choice:
    """Choose from the accepted rows of a ledger, which are numbered as `read_ledger` yields them.

    Memory: 36 bytes an accepted row and 8 for its turn, beside what the quota remembers of the kept ones.
    """
    columns, label_lists = _accepted(store)
    order = np.lexsort((columns.pop("piece"), columns.pop("position"), columns.pop("round")))
    quota, tally, kept = Quota(targets), Counter[str](), np.zeros(len(order), bool)
    for start in range(0, len(order), _LOT):
        lot = order[start : start + _LOT]
        pairs = zip(columns["labels"][lot].tolist(), columns["text_hash"][lot].tolist(), strict=True)
        verdicts = [quota.judge(Candidate(label_lists[code], hashed)) for code, hashed in pairs]
        tally.update(verdicts)
        kept[start : start + _LOT] = [verdict == "kept" for verdict in verdicts]
    chosen = order[kept]
    del tally["kept"]
    wide = np.array([len(labels) != 1 for labels in label_lists], bool)
    return Choice(
        rows=columns["row"][chosen],
        per_label=dict(quota.kept),
        surplus=dict(sorted(tally.items())),
        single=not wide[columns["labels"][chosen]].any(),
    )


def _accepted(store: Store) -> tuple[dict[str, NDArray[np.int64]], list[tuple[str, ...]]]:
    """Return the accepted rows' packed columns, and the label lists that column `labels` numbers."""
    pieces: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _PACKED}
    codes: dict[tuple[str, ...], int] = {}
    begin = 0
    for table in read_ledger(store, _JUDGED):
        numbers = pa.array(np.arange(begin, begin + table.num_rows))
        rows = table.append_column("row", numbers).filter(pc.field("status") == "accepted")
        lists = map(tuple, rows["labels"].to_pylist())
        coded = np.array([codes.setdefault(labels, len(codes)) for labels in lists], np.int32)
        for name, kind in _PACKED.items():
            values = coded if name == "labels" else rows[name].to_numpy()
            pieces[name].append(values.astype(kind))
        begin += table.num_rows
    # One column at a time, so that only one of them is there twice.
    columns = {name: np.concatenate([np.empty(0, kind), *pieces.pop(name)]) for name, kind in _PACKED.items()}
    return columns, list(codes)
