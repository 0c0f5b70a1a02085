"""Which rows of a ledger make the dataset: accepted rows judged in plan order, their columns kept packed."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cluster.ledger import read_ledger
from cluster.storage import Store
from synth.near import Signatures, alone, packed, unpacked
from synth.quota import Candidate, Place, Quota, Verdict
from synth.semantic import LOT, KeptMeanings, Meanings

_VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_TURN = ("round", "position", "piece")
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
    twins: frozenset[Place] = frozenset()
    """Where the rows stand that are left out for what they say."""
    twins_per_label: Mapping[str, int] = field(default_factory=dict)

    def lacking(self, targets: Mapping[str, int]) -> dict[str, int]:
        """Return how many rows each label lacks that is not full."""
        return {label: n - self.per_label[label] for label, n in targets.items() if n > self.per_label[label]}

    def spare(self, targets: Mapping[str, int]) -> dict[str, int]:
        """Return how many rows to make beyond those that lack: so many are likely to be twins again."""
        return {
            label: ceil(lack * self.twins_per_label.get(label, 0) / max(1, self.per_label[label]))
            for label, lack in self.lacking(targets).items()
        }


@dataclass(frozen=True, slots=True, eq=False)
class _Accepted:
    """The accepted rows of a ledger: packed columns, the label lists that `labels` numbers, signatures."""

    columns: dict[str, NDArray[np.int64]]
    label_lists: list[tuple[str, ...]]
    signatures: Signatures


def choose(
    store: Store, targets: Mapping[str, int], near: float | None = None, meanings: Meanings | None = None
) -> Choice:
    """Choose from the accepted rows of a ledger, which are numbered as `read_ledger` yields them.

    near is how similar two rows may not be, as for `Quota`; meanings say which rows are twins. Memory: 36
    bytes an accepted row, 64 more when near-duplicates are looked for, 20 more with meanings, and 8 for its
    turn, beside what the quota remembers of the kept ones.
    """
    rows = _accepted(store, near is not None, meanings)
    columns, turns = rows.columns, [rows.columns.pop(name) for name in _TURN]
    order = np.lexsort(turns[::-1])
    stands = [turn[order] for turn in turns[:2]] if meanings else []
    del turns
    quota = Quota(targets, near)
    verdicts = (_VERDICTS.index(verdict) for verdict in _judged(quota, rows, order, meanings))
    codes = np.fromiter(verdicts, np.int8, len(order))
    chosen, twins = order[codes == _VERDICTS.index("kept")], codes == _VERDICTS.index("semantic_duplicate")
    counts = np.bincount(codes, minlength=len(_VERDICTS)).tolist()
    tally = {name: count for name, count in zip(_VERDICTS, counts, strict=True) if count and name != "kept"}
    wide = np.array([len(labels) != 1 for labels in rows.label_lists], bool)
    coded = columns["labels"][order[twins]].tolist()
    return Choice(
        rows=columns["row"][chosen],
        per_label=dict(quota.kept),
        surplus=dict(sorted(tally.items())),
        single=not wide[columns["labels"][chosen]].any(),
        twins=_places(stands[0], stands[1], twins) if meanings else frozenset(),
        twins_per_label=Counter(label for code in coded for label in rows.label_lists[code]),
    )


def _judged(
    quota: Quota, rows: _Accepted, order: NDArray[np.int64], meanings: Meanings | None
) -> Iterator[Verdict]:
    """Yield the verdicts on accepted rows, in the given order."""
    kept = KeptMeanings(meanings.similarity, meanings.across_labels) if meanings else None
    lonely = alone(rows.signatures)
    for start in range(0, len(order), LOT):
        lot, peers = order[start : start + LOT], None
        labels = [rows.label_lists[code] for code in rows.columns["labels"][lot].tolist()]
        if kept is not None and meanings is not None:
            # A row that is over the target is compared with none.
            open_labels = [() if quota.filled(names) else names for names in labels]
            peers = kept.lot(meanings.vectors.take(rows.columns["place"][lot]), open_labels)
        hashes, signed = rows.columns["text_hash"][lot].tolist(), unpacked(rows.signatures[lot])
        each = zip(labels, hashes, signed, lonely[lot].tolist(), strict=True)
        for number, row in enumerate(each):
            twin = peers is not None and peers.twin(number)
            verdict = quota.judge(Candidate(*row, twin))
            if peers is not None and verdict == "kept":
                peers.keep(number)
            yield verdict
        if peers is not None:
            peers.close()


def _places(
    rounds: NDArray[np.int64], positions: NDArray[np.int64], marked: NDArray[np.bool_]
) -> frozenset[Place]:
    """Return where the marked ones of all accepted rows, given in plan order, stand."""
    numbers = np.arange(len(marked))
    begins = np.ones(len(marked), bool)
    begins[1:] = (rounds[1:] != rounds[:-1]) | (positions[1:] != positions[:-1])
    ordinals = numbers - np.maximum.accumulate(np.where(begins, numbers, 0))
    return frozenset(zip(*(each[marked].tolist() for each in (rounds, positions, ordinals)), strict=True))


def _accepted(store: Store, signed: bool, meanings: Meanings | None) -> _Accepted:
    """Read the accepted rows; with meanings the column `place` tells where the vectors are."""
    kinds = _PACKED | ({"place": np.int64} if meanings else {})
    pieces: dict[str, list[NDArray[np.int64]]] = {name: [] for name in kinds}
    signatures: list[Signatures] = []
    codes: dict[tuple[str, ...], int] = {}
    begin = 0
    wanted = (*_JUDGED, *(["signature"] if signed else []), *(["row_id"] if meanings else []))
    for table in read_ledger(store, wanted):
        numbers = pa.array(np.arange(begin, begin + table.num_rows))
        rows = table.append_column("row", numbers).filter(pc.field("status") == "accepted")
        lists = map(tuple, rows["labels"].to_pylist())
        coded = np.array([codes.setdefault(labels, len(codes)) for labels in lists], np.int32)
        made = {"labels": coded} | ({"place": meanings.vectors.locate(rows)} if meanings else {})
        for name, kind in kinds.items():
            values = made[name] if name in made else rows[name].to_numpy()
            pieces[name].append(values.astype(kind))
        signatures.append(packed(rows["signature"] if signed else None, rows.num_rows))
        begin += table.num_rows
    # One column at a time, so that only one of them is there twice.
    columns = {name: np.concatenate([np.empty(0, kind), *pieces.pop(name)]) for name, kind in kinds.items()}
    return _Accepted(columns, list(codes), _joined(signatures))


def _joined(signatures: list[Signatures]) -> Signatures:
    return np.concatenate(signatures) if signatures else packed(None, 0)
