"""Which rows of a ledger make the dataset: accepted rows judged in plan order, their columns kept packed."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import ceil
from typing import Any, get_args

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


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What holds from the start of a round on."""

    targets: Mapping[str, int]
    """Rows of each label that there may be, those of earlier rounds included."""
    left_out: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    """Ids of rows that leave the dataset for what a student said of them."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The rows of a dataset in plan order, each by its number in the ledger; what was left, by reason."""

    rows: NDArray[np.int64]
    per_label: Mapping[str, int]
    surplus: Mapping[str, int]
    single: bool
    """Whether every row has one label."""
    quota: Quota = field(repr=False, compare=False)
    """What judged them, for the round to come."""
    twins: frozenset[Place] = frozenset()
    """Where the rows stand that are left out for what they say."""
    twins_per_label: Mapping[str, int] = field(default_factory=dict)
    digest: str = ""
    """Hash of the rows in order, by where they stand in the plan and their texts."""

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
    store: Store,
    targets: Mapping[str, int],
    near: float | None = None,
    meanings: Meanings | None = None,
    steps: Sequence[Step] = (),
    rounds: int | None = None,
) -> Choice:
    """Choose from the accepted rows of a ledger, which are numbered as `read_ledger` yields them.

    near is how similar two rows may not be, as for `Quota`; meanings say which rows are twins. Of a run in
    rounds, steps say what holds in each, the last one now, and rows of so many rounds are looked at; targets
    are those of the last step. Memory: 36 bytes an accepted row, 64 more when near-duplicates are looked
    for, 20 more with meanings, and 8 for its turn, beside what the quota remembers of the kept ones.
    """
    steps = steps or (Step(targets),)
    rows = _accepted(store, near is not None, meanings, steps)
    columns, turns = rows.columns, [rows.columns.pop(name) for name in _TURN]
    order = np.lexsort(turns[::-1])
    stands = [turn[order] for turn in turns[:2]] if meanings else []
    ends = np.searchsorted(turns[0][order], np.arange(1, len(steps) + 1))
    if rounds is not None:
        ends = np.minimum(ends, ends[rounds - 1] if rounds else 0)
    told = [*(turn[order] for turn in turns), columns["text_hash"][order]]
    del turns
    quota = Quota(targets, near)
    judged = _Judged(quota, rows, order, meanings)
    codes = np.full(len(order), _VERDICTS.index("over_target"), np.int8)
    begin = 0
    for number, (step, end) in enumerate(zip(steps, ends.tolist(), strict=True)):
        judged.enter(step.targets, number)
        verdicts = (_VERDICTS.index(verdict) for verdict in judged.between(begin, end))
        codes[begin:end] = np.fromiter(verdicts, np.int8, end - begin)
        begin = end
    codes[judged.gone(codes == _VERDICTS.index("kept"), len(steps))] = _VERDICTS.index("left_out")
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
        quota=quota,
        digest=_digest(told, codes == _VERDICTS.index("kept")),
    )


def _digest(columns: Sequence[NDArray[Any]], kept: NDArray[np.bool_]) -> str:
    made = blake2b(digest_size=16)
    for column in columns:
        made.update(np.ascontiguousarray(column[kept], np.int64).tobytes())
    return made.hexdigest()


class _Judged:
    """Accepted rows in plan order, and what becomes of each as round after round is entered."""

    def __init__(
        self, quota: Quota, rows: _Accepted, order: NDArray[np.int64], meanings: Meanings | None
    ) -> None:
        self._quota, self._rows, self._order, self._meanings = quota, rows, order, meanings
        self._kept = KeptMeanings(meanings.similarity, meanings.across_labels) if meanings else None
        self._lonely = alone(rows.signatures)
        self._leaving: dict[int, list[tuple[str, ...]]] = {}

    def enter(self, targets: Mapping[str, int], step: int) -> None:
        """Let the rows go that leave before a round, and take its targets."""
        self._quota.targets = targets
        for labels in self._leaving.pop(step, ()):
            self._quota.release(labels)

    def between(self, begin: int, end: int) -> Iterator[Verdict]:
        """Yield the verdicts on the rows from one place in the order to another."""
        for start in range(begin, end, LOT):
            yield from self._lot(self._order[start : min(end, start + LOT)])

    def gone(self, kept: NDArray[np.bool_], steps: int) -> NDArray[np.bool_]:
        """Mark the rows, in order, that were kept and left again before one of so many rounds."""
        if "leaves" not in self._rows.columns:
            return np.zeros(len(kept), bool)
        leaves = self._rows.columns["leaves"][self._order]
        return kept & (leaves > 0) & (leaves < steps)

    def _lot(self, lot: NDArray[np.int64]) -> Iterator[Verdict]:
        rows, quota, peers = self._rows, self._quota, None
        labels = [rows.label_lists[code] for code in rows.columns["labels"][lot].tolist()]
        leaves = rows.columns["leaves"][lot].tolist() if "leaves" in rows.columns else [0] * len(lot)
        if self._kept is not None and self._meanings is not None:
            # A row that is over the target is compared with none.
            open_labels = [() if quota.filled(names) else names for names in labels]
            peers = self._kept.lot(self._meanings.vectors.take(rows.columns["place"][lot]), open_labels)
        hashes, signed = rows.columns["text_hash"][lot].tolist(), unpacked(rows.signatures[lot])
        each = zip(labels, hashes, signed, self._lonely[lot].tolist(), strict=True)
        for number, row in enumerate(each):
            twin = peers is not None and peers.twin(number)
            verdict = quota.judge(Candidate(*row, twin))
            if peers is not None and verdict == "kept":
                peers.keep(number)
            if verdict == "kept" and leaves[number]:
                self._leaving.setdefault(leaves[number], []).append(row[0])
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


def _accepted(store: Store, signed: bool, meanings: Meanings | None, steps: Sequence[Step]) -> _Accepted:
    """Read the accepted rows; with meanings the column `place` tells where the vectors are.

    Where rows leave, the column `leaves` tells before which round, 0 for those that stay.
    """
    leaving = any(len(step.left_out) for step in steps)
    kinds = _PACKED | ({"place": np.int64} if meanings else {}) | ({"leaves": np.int32} if leaving else {})
    pieces: dict[str, list[NDArray[np.int64]]] = {name: [] for name in kinds}
    signatures: list[Signatures] = []
    codes: dict[tuple[str, ...], int] = {}
    begin = 0
    wanted = (*_JUDGED, *(["signature"] if signed else []), *(["row_id"] if meanings or leaving else []))
    for table in read_ledger(store, wanted):
        numbers = pa.array(np.arange(begin, begin + table.num_rows))
        rows = table.append_column("row", numbers).filter(pc.field("status") == "accepted")
        lists = map(tuple, rows["labels"].to_pylist())
        coded = np.array([codes.setdefault(labels, len(codes)) for labels in lists], np.int32)
        made: dict[str, NDArray[Any]] = {"labels": coded}
        if meanings:
            made["place"] = meanings.vectors.locate(rows)
        if leaving:
            made["leaves"] = _leaves(rows["row_id"], steps)
        for name, kind in kinds.items():
            values = made[name] if name in made else rows[name].to_numpy()
            pieces[name].append(values.astype(kind))
        signatures.append(packed(rows["signature"] if signed else None, rows.num_rows))
        begin += table.num_rows
    # One column at a time, so that only one of them is there twice.
    columns = {name: np.concatenate([np.empty(0, kind), *pieces.pop(name)]) for name, kind in kinds.items()}
    return _Accepted(columns, list(codes), _joined(signatures))


def _leaves(row_ids: pa.ChunkedArray, steps: Sequence[Step]) -> NDArray[np.int32]:
    """Return before which round each row leaves; a row leaves once."""
    leaves = np.zeros(len(row_ids), np.int32)
    for number, step in enumerate(steps):
        out = pc.is_in(row_ids, value_set=step.left_out).to_numpy()
        leaves[out & (leaves == 0)] = number
    return leaves


def _joined(signatures: list[Signatures]) -> Signatures:
    return np.concatenate(signatures) if signatures else packed(None, 0)
