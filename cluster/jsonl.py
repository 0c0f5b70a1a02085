"""JSONL files, plain or compressed, read line by line with errors that name file and line."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.errors import DataError


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file, plain, .gz or .zst; DataError names file and line."""
    try:
        with _open(path) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, _parse(line, f"{path}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read ({reason}); check the path and the file") from error


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".zst":
        import pyarrow as pa

        # Arrow says so when the file was cut off; zstandard's own reader ends without a word.
        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"))
        if b"\\ud" in line.lower():
            # Half of a character that takes two escapes passes as JSON, and as text nowhere else.
            json.dumps(row, ensure_ascii=False).encode()
    except (UnicodeDecodeError, UnicodeEncodeError) as error:
        raise DataError(f"{place}: is not UTF-8 text ({error.reason}); mend the row") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: is not a JSON object ({error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: is not a JSON object that can be read ({error})") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: is not a JSON object")
    return row
