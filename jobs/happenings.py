"""The events of a run, read from outside: of `events.jsonl`, which grows all night, only the end."""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.errors import StorageError
from cluster.progress import EVENTS
from cluster.storage import Store
from synth.telling import KIND

TAIL_BYTES = 256 * 1024
MOST_BYTES = 16 * TAIL_BYTES
ATTEMPTS = 5

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tail:
    """The last events of a run, oldest first; bytes were read of so many in all."""

    events: Sequence[Event]
    read: int
    size: int


def read_tail(store: Store) -> Tail:
    """Read the end of `events.jsonl`: enough to hold an account of the synthesis, within limits."""
    if not store.exists(EVENTS):
        return Tail((), 0, 0)
    wanted = TAIL_BYTES
    while True:
        data, size = _last_bytes(store, wanted)
        events = _parsed(data if len(data) == size else data.partition(b"\n")[2])
        told = any(event.get("event") in (KIND, "synthesized") for event in events)
        if told or len(data) == size or wanted >= MOST_BYTES:
            return Tail(events, len(data), size)
        wanted *= 4


def moment(event: Event) -> float:
    """Return when an event was recorded, in seconds since 1970."""
    return datetime.fromisoformat(event["time"]).timestamp()


def _last_bytes(store: Store, wanted: int) -> tuple[bytes, int]:
    """Return the last bytes of the events, and how many there are; a driver may write them meanwhile."""
    for attempt in range(ATTEMPTS):
        try:
            with store.open(EVENTS) as file:
                size = file.seek(0, io.SEEK_END)
                file.seek(max(0, size - wanted))
                return file.read(min(size, wanted)), size
        except StorageError:
            # An object store puts the whole anew: what was opened may be gone before it is read.
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.1)
    raise AssertionError("unreachable")


def _parsed(data: bytes) -> list[Event]:
    events: list[Event] = []
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue  # The last line may be half written.
        if isinstance(event, dict) and isinstance(event.get("time"), str):
            events.append(event)
    return events
