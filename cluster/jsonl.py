"""JSONL files, plain or compressed, read line by line with errors that name file and line."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from cluster.errors import DataError


class BadLine(DataError):
    """A line of JSONL that holds no object: reason is `broken` or `encoding`; the message names no place."""

    def __init__(self, reason: Literal["broken", "encoding"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file, plain, .gz or .zst; DataError names file and line."""
    try:
        with path.open("rb") as file, unpacked(file, path.name) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _placed(line if number > 1 else without_mark(line), f"{path}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read ({reason}); check the path and the file") from error


def unpacked(file: BinaryIO, name: str) -> BinaryIO:
    """Return the bytes of a file, decompressed when its name ends in .gz or .zst; file stays the caller's."""
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(file, "rb"))
    if name.endswith(".zst"):
        import io

        import pyarrow as pa

        # Arrow says so when the file was cut off; zstandard's own reader ends without a word.
        return cast(BinaryIO, io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")))
    return file


def without_mark(line: bytes) -> bytes:
    """Return a file's first line without the byte order mark that some editors put before it."""
    return line.removeprefix(codecs.BOM_UTF8)


def parse_line(line: bytes) -> dict[str, Any]:
    """Return the object on a line; BadLine when there is none."""
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\ud" in line or b"\\uD" in line:
            # Half of a character that takes two escapes passes as JSON, and as text nowhere else.
            json.dumps(row, ensure_ascii=False).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise BadLine("encoding", f"is not UTF-8 text ({error.reason}); mend the row") from error
    except json.JSONDecodeError as error:
        raise BadLine("broken", f"is not a JSON object ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise BadLine("broken", f"is not a JSON object that can be read ({error})") from error
    if not isinstance(row, dict):
        raise BadLine("broken", "is not a JSON object")
    return row


def _placed(line: bytes, place: str) -> dict[str, Any]:
    try:
        return parse_line(line)
    except BadLine as error:
        raise DataError(f"{place}: {error}") from error
