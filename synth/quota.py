"""Which accepted rows make the dataset: judged greedily in plan order, up to the target of every label."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from synth.near import NearRows

Verdict = Literal["kept", "over_target", "duplicate", "near_duplicate", "semantic_duplicate", "left_out"]
Place = tuple[int, int, int]
"""Where an accepted row stands: round, position of its item, ordinal among the item's accepted rows."""


class Candidate(NamedTuple):
    """An accepted row as the quota sees it."""

    labels: tuple[str, ...]
    text_hash: int
    signature: bytes | None = None
    """What it shares with other rows shows here; a row without one is near to none."""
    alone: bool | None = None
    """Of a row known from the start, whether `synth.near.alone` says so; None of a new one."""
    twin: bool = False
    """Whether it says the same as a row that is kept before it, as far as that is known."""


class Quota:
    """Fills the target of every label with the first rows, in plan order, that are no duplicates.

    near is the share of words and pairs of words in common that makes a near-duplicate; with None only equal
    texts are duplicates. Rows are compared with kept ones alone: the first of a pair is the one that stays.
    A row whose labels are full neither enters the dataset nor counts as seen: so what was drawn beyond a
    target cannot change which rows another label keeps.
    """

    def __init__(self, targets: Mapping[str, int], near: float | None = None) -> None:
        self.targets: Mapping[str, int] = dict(targets)
        """May change from round to round."""
        self.kept = dict.fromkeys(targets, 0)
        self._seen: set[int] = set()
        self._near = NearRows(near) if near is not None else None

    def judge(self, row: Candidate) -> Verdict:
        """Decide on the next row in plan order."""
        if self.filled(row.labels):
            return "over_target"
        if row.text_hash in self._seen:
            return "duplicate"
        signed = row.signature
        if self._near is not None and signed is not None:
            # A row that is cast out for what it says must not cast out others.
            near, alone = self._near, row.alone
            if near.holds(signed, alone) if row.twin else not near.admit(signed, alone):
                return "near_duplicate"
        if row.twin:
            return "semantic_duplicate"
        self._seen.add(row.text_hash)
        for label in row.labels:
            self.kept[label] += 1
        return "kept"

    def release(self, labels: Sequence[str]) -> None:
        """Take a kept row out of its labels' counts: others may fill its place, but none that is like it."""
        for label in labels:
            self.kept[label] -= 1

    def full(self, label: str) -> bool:
        """Say whether a label has its target."""
        return self.kept[label] >= self.targets[label]

    def filled(self, labels: Sequence[str]) -> bool:
        """Say whether all of some labels are full."""
        return all(self.kept[label] >= self.targets[label] for label in labels)
