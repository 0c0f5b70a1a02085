"""What a run tells while it works: one live line on a terminal, a plain line every ten seconds elsewhere,
and `events.jsonl` always."""

import json
import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from cluster.storage import Store

LINE_SECONDS = 10.0
LIVE_SECONDS = 0.5
EVENT_SECONDS = 10.0
WIDTH = 110


class Progress:
    """Writes to a stream for people and to `events.jsonl` for machines."""

    def __init__(self, store: Store | None, stream: TextIO | None = None) -> None:
        self._store = store
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._shown = 0.0
        self._logged = 0.0
        self._open_line = False

    def event(self, kind: str, **data: Any) -> None:
        """Record an event."""
        if self._store is not None:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **data}
            self._store.append("events.jsonl", (json.dumps(line, ensure_ascii=False) + "\n").encode())

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._end_live()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def step(self, kind: str, text: str, **data: Any) -> None:
        """Show a line that stays and record it as an event."""
        self.say(text)
        self.event(kind, **data)

    def live(self, kind: str, text: str, **data: Any) -> None:
        """Show how far a stage is: often on a terminal, every ten seconds elsewhere; call it at any rate."""
        now = time.monotonic()
        if now - self._shown >= (LIVE_SECONDS if self._live else LINE_SECONDS):
            self._shown = now
            if self._live:
                self._stream.write(f"\r{text[:WIDTH]:<{WIDTH}}")
                self._open_line = True
            else:
                self._stream.write(f"{text}\n")
            self._stream.flush()
        if now - self._logged >= EVENT_SECONDS:
            self._logged = now
            self.event(kind, **data)

    def _end_live(self) -> None:
        if self._open_line:
            self._stream.write("\n")
            self._open_line = False
