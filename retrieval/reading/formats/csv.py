"""Comma-separated values with a header; quoted fields may hold commas, doubled quotes and line breaks."""

import csv
from collections.abc import Iterator, Sequence

from cluster.jsonl import unpacked, without_mark
from retrieval.reading.damage import DamagedFile
from retrieval.reading.places import open_file
from retrieval.reading.records import Format, Piece, Refusal, Rows, row_text

_MOST_CHARACTERS = 16 << 20
"""Of a field; a quote that is never closed would take in the rest of the file."""


class _Lines:
    """The lines of a file as text; remembers whether one since the last look was not UTF-8."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._number = 0
        self.bad = ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self._number += 1
        if self._number == 1:
            line = without_mark(line)
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            self.bad = error.reason
            return line.decode("utf-8", "replace")


def _rows(piece: Piece, columns: Sequence[str]) -> Rows:
    csv.field_size_limit(_MOST_CHARACTERS)
    with open_file(piece.url) as file, unpacked(file, piece.url) as data:
        lines = _Lines(iter(lambda: data.readline(_MOST_CHARACTERS), b""))
        records = csv.reader(lines, strict=True)
        header = _header(records, lines)
        while True:
            number, lines.bad = records.line_num + 1, ""
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                message = f"is not a row of CSV ({error}); mend its quotes"
                yield number, Refusal("broken", message)
                continue
            if lines.bad:
                message = f"is not UTF-8 text ({lines.bad}); mend the row"
                yield number, Refusal("encoding", message, row_text(record))
            elif record:
                yield number, _named(header, record)


def _header(records: Iterator[list[str]], lines: _Lines) -> list[str]:
    """Return the first row that is not blank; DamagedFile says why the file cannot be read without it."""
    try:
        header = next((record for record in records if record), [])
    except csv.Error as error:
        raise DamagedFile(f"its header is not a row of CSV: {error}") from error
    if lines.bad:
        raise DamagedFile(f"its header is not UTF-8 text: {lines.bad}")
    return header


def _named(header: Sequence[str], record: Sequence[str]) -> dict[str, str] | Refusal:
    if len(record) == len(header):
        return dict(zip(header, record, strict=True))
    message = f"has {len(record)} fields where the header names {len(header)}; mend its quotes"
    return Refusal("broken", message, row_text(record))


FORMAT = Format("csv", (".csv", ".csv.gz", ".csv.zst"), _rows)
