"""Lessons: what a teacher is shown and the reply it is to give, read from files and checked row by row."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.jsonl import BadLine, parse_line, unpacked, without_mark
from cluster.storage import place as store_at

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema([("place", pa.string()), ("messages", pa.list_(_TURN))])
"""One lesson: where it comes from, for messages, and the turns of a chat, of which the last is learnt."""
_ROLES = ("system", "user", "assistant")
_CHUNK = 4096

Turns = list[dict[str, str]]


def read_lessons(url: str) -> pa.Table:
    """Return the lessons of a JSONL or Parquet file, local or `s3://…`; DataError names file and row.

    A row has `messages`, a list of {role, content} that ends with the assistant's, or `prompt` and `reply`.
    """
    batches: list[pa.RecordBatch] = []
    chunk: list[dict[str, Any]] = []
    with _opened(url) as file:
        for place, row in _parquet(file, url) if url.endswith(".parquet") else _jsonl(file, url):
            chunk.append({"place": place, "messages": _turns(row, place)})
            if len(chunk) == _CHUNK:
                batches.append(pa.RecordBatch.from_pylist(chunk, schema=SCHEMA))
                chunk = []
    batches.append(pa.RecordBatch.from_pylist(chunk, schema=SCHEMA))
    table = pa.Table.from_batches(batches, schema=SCHEMA)
    if not table.num_rows:
        raise DataError(f"{url}: holds no rows")
    return table


def lessons(pairs: Iterable[tuple[str, str]], name: str) -> pa.Table:
    """Return lessons of (prompt, reply) pairs; name says whose pairs they are, for messages."""
    rows = [
        {"place": f"{name}, pair {number}", "messages": _turns({"prompt": prompt, "reply": reply}, name)}
        for number, (prompt, reply) in enumerate(pairs, 1)
    ]
    if not rows:
        raise DataError(f"{name}: there are no pairs to learn")
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def check_readable(url: str) -> None:
    """Raise DataError when the first row of a file of lessons cannot be read."""
    with _opened(url) as file:
        rows = _parquet(file, url) if url.endswith(".parquet") else _jsonl(file, url)
        for place, row in rows:
            _turns(row, place)
            return
    raise DataError(f"{url}: holds no rows")


def _opened(url: str) -> BinaryIO:
    folder, _, name = url.rpartition("/")
    store = store_at(folder or ("/" if url.startswith("/") else "."))
    if not store.exists(name):
        raise DataError(f"{url}: there is no such file; check tune.rows")
    return store.open(name)


def _jsonl(file: BinaryIO, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with unpacked(file, url) as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    place = f"{url}:{number}"
                    yield place, _parsed(line if number > 1 else without_mark(line), place)
    except (OSError, EOFError) as error:
        raise DataError(f"{url}: cannot be read ({error}); check the file") from error


def _parsed(line: bytes, place: str) -> dict[str, Any]:
    try:
        return parse_line(line)
    except BadLine as error:
        raise DataError(f"{place}: {error}") from error


def _parquet(file: BinaryIO, url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        parquet = pq.ParquetFile(file)
        wanted = [name for name in ("messages", "prompt", "reply") if name in parquet.schema_arrow.names]
        number = 0
        for batch in parquet.iter_batches(_CHUNK, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                yield f"{url}: row {number}", row
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(f"{url}: is no Parquet file that can be read ({reason})") from error


def _turns(row: Mapping[str, Any], place: str) -> Turns:
    messages = row.get("messages")
    if messages is None:
        prompt, reply = (_text(row.get(name), f"{place}: {name}") for name in ("prompt", "reply"))
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
    if not isinstance(messages, list) or not all(isinstance(turn, dict) for turn in messages):
        raise DataError(f"{place}: messages must be a list of {{role, content}}")
    turns = [_turn(turn, f"{place}: turn {number}") for number, turn in enumerate(messages, 1)]
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError(f"{place}: messages must end with the assistant's reply to what comes before")
    return turns


def _turn(turn: Mapping[str, Any], place: str) -> dict[str, str]:
    if turn.get("role") not in _ROLES:
        raise DataError(f"{place}: role {turn.get('role')!r} is none of {', '.join(_ROLES)}")
    return {"role": turn["role"], "content": _text(turn.get("content"), f"{place}: content")}


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place} must be a text that is not empty (found {str(value)[:40]!r})")
    return value
