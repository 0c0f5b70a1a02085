"""What earlier sittings settled, packed: some 45 bytes for an item with one accepted row, 110 if signed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cluster.errors import RunError
from cluster.ids import Halves, unpack
from synth.near import Signatures, alone, unpacked
from synth.quota import Candidate

Labels = tuple[str, ...]
Numbers = npt.NDArray[np.int64]
CHUNK = 4096
"""Items unpacked at a time."""


class Known(NamedTuple):
    """An item that is settled."""

    position: int
    """Ordinal in the plan of its round."""
    number: int
    """Ordinal among the settled items of its round."""
    labels: Labels
    """Labels of its first row, accepted or not."""
    rows: Sequence[Candidate]
    """Its accepted rows."""


@dataclass(frozen=True, slots=True, eq=False)
class LedgerRows:
    """Columns of the ledger rows of one round, those of an item in their order; all of one length n."""

    ids: Halves
    """Item ids, shape (n, 2)."""
    positions: Numbers
    labelings: npt.NDArray[np.int32]
    """Each row's labels, as a number in a list of labelings."""
    accepted: npt.NDArray[np.bool_]
    hashes: Numbers
    """Hashes of the texts; of no meaning where a row is not accepted."""
    signatures: Signatures

    @classmethod
    def joined(cls, tables: Sequence["LedgerRows"]) -> "LedgerRows":
        """Return the rows of several tables."""
        names = cls.__slots__
        return cls(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))

    def where(self, mask: npt.NDArray[np.bool_]) -> "LedgerRows":
        """Return the rows that a mask of shape (n,) marks."""
        return LedgerRows(*(getattr(self, name)[mask] for name in self.__slots__))


class _Round:
    """The settled items of one round in plan order, and the accepted rows of each."""

    def __init__(self, rows: LedgerRows) -> None:
        order = np.argsort(rows.positions, kind="stable")
        positions, ids = rows.positions[order], rows.ids[order]
        begins = np.ones(len(order), np.bool_)
        begins[1:] = positions[1:] != positions[:-1]
        mixed = np.flatnonzero(~begins[1:] & (ids[1:] != ids[:-1]).any(axis=1))
        if len(mixed):
            both = " and ".join(unpack(ids[mixed[0] + n]) for n in (0, 1))
            raise RunError(
                f"ledger: holds {both}, both at position {positions[mixed[0]]} of the plan, so this run was "
                "planned in two ways; begin another with --set run=NAME"
            )
        self.positions, self.ids = positions[begins], ids[begins]
        self.asked = rows.labelings[order][begins]
        accepted = rows.accepted[order]
        starts = np.append(np.flatnonzero(begins), len(order))
        self.ends = np.append(0, np.cumsum(accepted))[starts].astype(np.uint32)
        taken = order[accepted]
        self.labelings, self.hashes = rows.labelings[taken], rows.hashes[taken]
        self.signatures = rows.signatures[taken]
        self.alone = alone(self.signatures)

    @property
    def nbytes(self) -> int:
        columns = (self.positions, self.ids, self.asked, self.ends, self.labelings, self.hashes)
        return sum(column.nbytes for column in columns) + self.signatures.nbytes + self.alone.nbytes

    def walk(self, labelings: Sequence[Labels]) -> Iterator[Known]:
        for first in range(0, len(self.positions), CHUNK):
            ends = self.ends[first : first + CHUNK + 1]
            low, high = int(ends[0]), int(ends[-1])
            numbers, hashes = self.labelings[low:high].tolist(), self.hashes[low:high].tolist()
            signed = unpacked(self.signatures[low:high])
            each = zip(numbers, hashes, signed, self.alone[low:high].tolist(), strict=True)
            rows = [Candidate(labelings[n], *more) for n, *more in each]
            cuts = (ends - low).tolist()
            positions = self.positions[first : first + CHUNK].tolist()
            asked = self.asked[first : first + CHUNK].tolist()
            for n, (position, number) in enumerate(zip(positions, asked, strict=True)):
                yield Known(position, first + n, labelings[number], rows[cuts[n] : cuts[n + 1]])


class Settled:
    """The settled items of a run by round and position, with their accepted rows."""

    def __init__(
        self,
        rounds: Mapping[int, LedgerRows] | None = None,
        labelings: Sequence[Labels] = (),
        failed: int = 0,
    ) -> None:
        self.failed = failed
        """How many of the items failed."""
        self._labelings = labelings
        self._rounds = {number: _Round(rows) for number, rows in (rounds or {}).items()}

    def __len__(self) -> int:
        return sum(len(each.positions) for each in self._rounds.values())

    @property
    def nbytes(self) -> int:
        """Memory that the items take."""
        return sum(each.nbytes for each in self._rounds.values())

    def walk(self, round: int) -> Iterator[Known]:
        """Yield the items of a round in plan order."""
        if round in self._rounds:
            yield from self._rounds[round].walk(self._labelings)

    def id_of(self, round: int, known: Known) -> str:
        """Return the id that the ledger has for an item."""
        return unpack(self._rounds[round].ids[known.number])
