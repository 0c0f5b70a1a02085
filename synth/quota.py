"""Which accepted rows make the dataset: judged greedily in plan order, up to the target of every label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["kept", "over_target", "duplicate"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An accepted row as the quota sees it."""

    labels: tuple[str, ...]
    text_hash: int


class Quota:
    """Fills the target of every label with the first rows, in plan order, that are no duplicates.

    A row whose labels are full neither enters the dataset nor counts as seen: so what was drawn beyond a
    target cannot change which rows another label keeps.
    """

    def __init__(self, targets: Mapping[str, int]) -> None:
        self.targets = dict(targets)
        self.kept = dict.fromkeys(targets, 0)
        self._seen: set[int] = set()

    def judge(self, row: Candidate) -> Verdict:
        """Decide on the next row in plan order."""
        if self.filled(row.labels):
            return "over_target"
        if row.text_hash in self._seen:
            return "duplicate"
        self._seen.add(row.text_hash)
        for label in row.labels:
            self.kept[label] += 1
        return "kept"

    def full(self, label: str) -> bool:
        """Say whether a label has its target."""
        return self.kept[label] >= self.targets[label]

    def filled(self, labels: Sequence[str]) -> bool:
        """Say whether all of some labels are full."""
        return all(self.kept[label] >= self.targets[label] for label in labels)
