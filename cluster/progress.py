"""What a run tells while it works: a view redrawn in place on a terminal, a plain line every ten seconds
elsewhere, and `events.jsonl` always."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from cluster.screen import Screen, terminal
from cluster.storage import Store

EVENTS = "events.jsonl"
LINE_SECONDS = 10.0
LIVE_SECONDS = 0.5
EVENT_SECONDS = 10.0
"""Between two events of how far a stage is; later a hundredth of the time it has taken."""
MOST_EVENT_SECONDS = 60.0
"""An object store puts the whole file anew for each: a night of them must not grow without bounds."""
ENDS = ("ended", "failed")
"""Events after which nothing more is drawn."""

View = Callable[[], Any]
"""Makes a renderable of rich; called only when there is a terminal to show it on."""


@dataclass(frozen=True, slots=True)
class _Latest:
    """What `live` was told last."""

    kind: str
    text: str
    view: View | None
    data: dict[str, Any]
    shown: bool
    logged: bool


class Progress:
    """Writes to a stream for people and to `events.jsonl` for machines."""

    def __init__(self, store: Store | None, stream: TextIO | None = None) -> None:
        self._store = store
        self._stream = stream or sys.stderr
        self._screen = Screen(self._stream) if terminal(self._stream) else None
        self._shown = 0.0
        self._logged = 0.0
        self._began: float | None = None
        self._latest: _Latest | None = None

    def event(self, kind: str, **data: Any) -> None:
        """Record an event."""
        if kind in ENDS:
            self._end_live()
        if self._store is not None:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": kind, **data}
            self._store.append(EVENTS, (json.dumps(line, ensure_ascii=False) + "\n").encode())

    def say(self, text: str) -> None:
        """Show a line that stays."""
        self._end_live()
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def step(self, kind: str, text: str, **data: Any) -> None:
        """Show a line that stays and record it as an event."""
        self.say(text)
        self.event(kind, **data)

    def live(self, kind: str, text: str, view: View | None = None, **data: Any) -> None:
        """Show how far a stage is: often on a terminal, every ten seconds elsewhere; call it at any rate.

        On a terminal the view is drawn, or the text when there is none.
        """
        now = time.monotonic()
        show = now - self._shown >= (LIVE_SECONDS if self._screen is not None else LINE_SECONDS)
        self._began = now if self._began is None else self._began
        pause = min(MOST_EVENT_SECONDS, max(EVENT_SECONDS, (now - self._began) / 100))
        record = now - self._logged >= pause
        self._latest = _Latest(kind, text, view, data, show, record)
        if show:
            self._shown = now
            self._show(text, view)
        if record:
            self._logged = now
            self.event(kind, **data)

    def _show(self, text: str, view: View | None) -> None:
        if self._screen is not None:
            from rich.text import Text

            self._screen.draw(view() if view else Text(text, no_wrap=True, overflow="ellipsis"))
        else:
            self._stream.write(f"{text}\n")
            self._stream.flush()

    def _end_live(self) -> None:
        """Let what was told last stand: on the terminal, and as an event."""
        latest, self._latest = self._latest, None
        if self._screen is not None:
            if latest is not None and not latest.shown:
                self._show(latest.text, latest.view)
            self._screen.close()
        if latest is not None and not latest.logged:
            self.event(latest.kind, **latest.data)
