"""A block of lines on a terminal that is redrawn in place, and text made safe to be shown there."""

import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WIDTH = 110
"""Characters of a line where there is no terminal to ask."""
# Control characters but tab and newline, marks that turn the direction of writing, and halves of characters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def visible(text: str) -> str:
    """Return a text with the characters escaped that could move the cursor, recolour or hide what follows."""
    return _UNSAFE.sub(lambda found: _escape(ord(found[0])), text)


def _escape(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def terminal(stream: TextIO) -> bool:
    """Say whether lines can be redrawn on a stream."""
    if not stream.isatty():
        return False
    return not console(stream).is_dumb_terminal


def console(stream: TextIO, **options: Any) -> "Console":
    """Return rich's console on a stream; what is printed is shown as it is, without markup."""
    from rich.console import Console

    if not stream.isatty() and "COLUMNS" not in os.environ:
        options = {"width": PLAIN_WIDTH} | options
    return Console(file=stream, markup=False, highlight=False, emoji=False, **options)


class Screen:
    """Shows a block and redraws it in place; whatever else is written to the terminal goes above it."""

    def __init__(self, stream: TextIO) -> None:
        self.console = console(stream)
        self._live: Any = None
        self._moved: list[tuple[logging.StreamHandler[Any], Any]] = []

    def draw(self, block: Any) -> None:
        """Show a renderable of rich in place of the one before it."""
        if self._live is None:
            self._open()
        self._live.update(block, refresh=True)

    def close(self) -> None:
        """Leave what was drawn last where it stands."""
        if self._live is not None:
            for handler, stream in self._moved:
                handler.setStream(stream)
            self._moved.clear()
            self._live.stop()
            self._live = None

    def _open(self) -> None:
        from rich.live import Live

        before = sys.stderr
        self._live = Live(console=self.console, auto_refresh=False, vertical_overflow="crop")
        self._live.start()
        # A driver that is killed could not bring the cursor back.
        self.console.show_cursor(True)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream in (before, sys.__stderr__):
                self._moved.append((handler, handler.setStream(sys.stderr)))
