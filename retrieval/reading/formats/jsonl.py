"""JSON objects, one a line; plain, .gz or .zst. Plain files are cut by bytes."""

from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO

from cluster.jsonl import BadLine, parse_line, unpacked, without_mark
from retrieval.reading.places import open_file
from retrieval.reading.records import CorpusFile, Format, Piece, Refusal, Rows, row_text, uncut

_PACKED = (".gz", ".zst")
_MOST_BYTES = 64 << 20
"""Of a line; longer ones are passed over without being held."""
_BLOCK = 1 << 22


def _rows(piece: Piece, columns: Sequence[str]) -> Rows:
    with open_file(piece.url) as file, unpacked(file, piece.url) as lines:
        position = _first_line(lines, piece.start)
        number = 0
        while piece.stop is None or position < piece.stop:
            line = lines.readline(_MOST_BYTES)
            if not line:
                return
            number += 1
            if len(line) == _MOST_BYTES and not line.endswith(b"\n"):
                position += len(line) + _skip_line(lines)
                yield number, Refusal("too_long", "the line has over 64 MiB; remove the row", row_text(line))
                continue
            if position == 0:
                position, line = len(line), without_mark(line)
            else:
                position += len(line)
            try:
                row = parse_line(line)
            except BadLine as error:
                if line.strip():
                    yield number, Refusal(error.reason, str(error), row_text(line))
                continue
            yield number, row


def _first_line(lines: BinaryIO, start: int) -> int:
    """Go to the first line that begins at or after a byte, and return where that is."""
    if start == 0:
        return 0
    lines.seek(start - 1)
    return start - 1 + _skip_line(lines)


def _skip_line(lines: BinaryIO) -> int:
    skipped = 0
    while part := lines.readline(_BLOCK):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _cut(file: CorpusFile, target_bytes: int) -> list[tuple[int, int | None, int]]:
    if file.url.endswith(_PACKED) or file.size <= target_bytes:
        return uncut(file, target_bytes)
    bounds = [*range(0, file.size, target_bytes), file.size]
    return [(start, stop, stop - start) for start, stop in pairwise(bounds)]


def _rows_before(piece: Piece) -> int:
    """Count the lines before the first one that begins in a piece."""
    if piece.start == 0:
        return 0
    with open_file(piece.url) as file:
        left = _first_line(file, piece.start)
        file.seek(0)
        lines = 0
        while left > 0 and (block := file.read(min(_BLOCK, left))):
            lines += block.count(b"\n")
            left -= len(block)
    return lines


FORMAT = Format("jsonl", (".jsonl", ".jsonl.gz", ".jsonl.zst"), _rows, _cut, _rows_before)
