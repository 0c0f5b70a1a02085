"""Read a corpus: checked documents in file order, exact duplicates dropped."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import DataError
from cluster.jsonl import read_jsonl
from retrieval.documents import Document, make_document
from retrieval.settings import CorpusSettings

MAX_CHARACTERS = 100_000
_CHECKED_ROWS = 10_000

Rows = Iterator[tuple[int, dict[str, Any]]]


def _read_parquet(path: Path) -> Rows:
    try:
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: is not a readable Parquet file ({error}); write it anew") from error


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": read_jsonl,
    ".jsonl.gz": read_jsonl,
    ".jsonl.zst": read_jsonl,
    ".parquet": _read_parquet,
}
"""How a file is read, by the end of its name: (row number from 1, row)."""


def check_corpus(settings: CorpusSettings) -> None:
    """Look at the files and the first rows, in seconds; DataError names file, row and remedy."""
    for _ in islice(read_documents(settings), _CHECKED_ROWS):
        pass


def corpus_hash(settings: CorpusSettings) -> str:
    """Hash names and bytes of the corpus files to 32 hexadecimal characters."""
    content = hashlib.blake2b(digest_size=16)
    for path in corpus_files(settings.path):
        content.update(path.name.encode())
        with path.open("rb") as file:
            while chunk := file.read(1 << 22):
                content.update(chunk)
    return content.hexdigest()


def corpus_files(path: Path) -> list[Path]:
    """Return the files of a corpus in name order; DataError when there is none."""
    if not path.exists():
        raise DataError(f"corpus {path}: there is no such file or folder; check corpus.path")
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    known = [p for p in found if _ending(p)]
    if not known:
        raise DataError(f"corpus {path}: no file ends in {', '.join(READERS)}; convert it to one of these")
    return known


def read_documents(settings: CorpusSettings) -> Iterator[Document]:
    """Yield the documents once each, in file order; DataError names file, row and remedy."""
    # The ids as numbers, some 64 bytes each: the only thing held that grows with the corpus.
    seen: set[int] = set()
    for path in corpus_files(settings.path):
        for number, row in READERS[_ending(path)](path):
            document = _document(row, settings, f"{path}:{number}")
            key = int(document.id, 16)
            if key not in seen:
                seen.add(key)
                yield document
    if not seen:
        raise DataError(f"corpus {settings.path}: holds no documents; give a file with rows")


def _ending(path: Path) -> str:
    return next((ending for ending in READERS if path.name.endswith(ending)), "")


def _document(row: Mapping[str, Any], settings: CorpusSettings, place: str) -> Document:
    text = "\n".join(_field(row, name, place) for name in settings.text)
    title = row.get(settings.title) if settings.title else None
    if title is not None and not isinstance(title, str):
        raise DataError(f"{place}: {settings.title!r} is not a text; set corpus.title to another column")
    length = len(text) + len(title or "")
    if length > MAX_CHARACTERS:
        raise DataError(
            f"{place}: the text has {length:,} characters, at most {MAX_CHARACTERS:,} are taken; "
            "cut it into passages or remove the row"
        )
    return make_document(text, (title or "").strip() or None)


def _field(row: Mapping[str, Any], name: str, place: str) -> str:
    if name not in row:
        known = ", ".join(row) or "none"
        raise DataError(f"{place}: has no column {name!r}, it has {known}; set corpus.text")
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{place}: {name!r} must be a text that is not empty; remove the row")
    return value.strip()
