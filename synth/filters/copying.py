"""Whether a text was taken over from somewhere: the share of its runs of words that stand there too."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from cluster.packed import PackedTable
from synth.filters.reading import Reading

RUN = 5
"""Words of a run. Texts that were written apart share few runs of five, and copies nearly all."""
_WORD = 2**64 - 1


class Origin(Protocol):
    """What may be copied."""

    def has(self, run: bytes) -> bool:
        """Say whether a run of words stands in it."""


class Rows:
    """Many short texts, as a table of all their runs: some 12 bytes and 1.5 µs for each."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._table = PackedTable()
        for text in texts:
            words = Reading(text).words
            starts = range(max(1, len(words) - RUN + 1))
            # The table is never written down: its hashes may be others in every process.
            keys = [hash(b" ".join(words[start : start + RUN])) & _WORD for start in starts]
            for key in keys:
                self._table.put((key,), 0)

    def has(self, run: bytes) -> bool:
        """Say whether a run stands in one of the texts; of those that do not, n in 2**40 are found for n."""
        return self._table.find(hash(run) & _WORD) is not None


class Document:
    """One longer text, whose words are looked through."""

    def __init__(self, text: str) -> None:
        self._said = b" %b " % b" ".join(Reading(text).words)

    def has(self, run: bytes) -> bool:
        """Say whether a run of words stands in the text."""
        return b" %b " % run in self._said


def runs(reading: Reading) -> list[bytes]:
    """Return a text's runs of words, one after the other; a shorter text is a run as a whole.

    The last one ends with the text, and may overlap the one before it.
    """
    words, last = reading.words, len(reading.words) - RUN
    if last <= 0:
        return [b" ".join(words)] if words else []
    return [b" ".join(words[start : start + RUN]) for start in (*range(0, last, RUN), last)]


def copied(fields: Sequence[Sequence[bytes]], origin: Origin, share: float) -> bool:
    """Say whether of every field's runs at least such a share stands in one origin."""
    return all([_taken(field, origin, share) for field in fields])


def _taken(field: Sequence[bytes], origin: Origin, share: float) -> bool:
    spare = len(field) * (1 - share) + 1e-9
    for run in field:
        if not origin.has(run):
            spare -= 1
            if spare < 0:
                return False
    return bool(field)
