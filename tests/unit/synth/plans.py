"""Slots and settled items for tests of what draws from a plan."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from synth.method import Slot
from synth.near import WIDTH
from synth.quota import Candidate
from synth.records import Item
from synth.settled import Labels, LedgerRows, Settled


def slot_of(item: Item) -> Slot:
    """The slot of an item that is built already."""
    return Slot(item.position, item.labels, lambda: item)


def slots_of(items: Iterable[Item]) -> Iterator[Slot]:
    return (slot_of(item) for item in items)


def settled_of(items: Iterable[tuple[Item, Sequence[Candidate]]]) -> Settled:
    """What a ledger holds whose items of round 0 gave these rows; an item without any was rejected."""
    labelings: list[Labels] = []
    rows: list[tuple[Item, int, bool, int]] = []
    signed = b""
    for item, candidates in items:
        for row in candidates or (None,):
            labels = item.labels if row is None else row.labels
            if labels not in labelings:
                labelings.append(labels)
            text = 0 if row is None else row.text_hash
            signed += (row and row.signature) or bytes(WIDTH)
            rows.append((item, labelings.index(labels), row is not None, text))
    if not rows:
        return Settled()
    halves = np.frombuffer(b"".join(bytes.fromhex(row[0].id) for row in rows), np.uint64).reshape(-1, 2)
    columns = LedgerRows(
        halves,
        np.array([row[0].position for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int32),
        np.array([row[2] for row in rows], np.bool_),
        np.array([row[3] for row in rows], np.int64),
        np.frombuffer(signed, np.uint8).reshape(-1, WIDTH),
    )
    return Settled({0: columns}, labelings)
