"""What passes between the steps of reading: files, pieces of files, and what was refused."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_SHOWN = 10_000
"""Characters of a refused row that are kept."""


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """A file of the corpus: an absolute path or `s3://…`, its bytes, a hash of its content, its format."""

    url: str
    size: int
    hash: str
    format: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a file from start to before stop, None being its end.

    start and stop are bytes of a plain JSONL file (a line belongs where it begins) and row groups of a
    Parquet file; other files are never cut.
    """

    url: str
    format: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row or file cannot be used: a reason to count by, a message with the remedy, and the row."""

    reason: str
    message: str
    row: str = ""


Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row | Refusal]]
"""Rows with their numbers in the piece, from 1; 0 stands for the file itself."""


def uncut(file: CorpusFile, target_bytes: int) -> list[tuple[int, int | None, int]]:
    """Cut nothing."""
    return [(0, None, file.size)]


def nothing_before(piece: Piece) -> int:
    """Count the rows before a piece that begins with its file."""
    return 0


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which files hold rows."""

    name: str
    endings: tuple[str, ...]
    """What the names of such files end in."""
    rows: Callable[[Piece, Sequence[str]], Rows]
    """Reads a piece; the named columns are all that is needed of each row."""
    cut: Callable[[CorpusFile, int], list[tuple[int, int | None, int]]] = uncut
    """Cuts a file into (start, stop, bytes) near a target of bytes."""
    rows_before: Callable[[Piece], int] = nothing_before
    """Counts what lies in the file before a piece; may read the file."""
    damaged: str = "cannot be read ({reason}); check the path and the file"
    """What is said of a file that is not what it should be."""


def row_text(row: object) -> str:
    """Return a row as text for the refused rows, at most 10,000 characters."""
    if isinstance(row, bytes):
        return row[: 4 * _SHOWN].decode("utf-8", "replace")[:_SHOWN]
    text = row if isinstance(row, str) else json.dumps(row, ensure_ascii=False, default=str)
    return text[:_SHOWN].encode("utf-8", "replace").decode()
