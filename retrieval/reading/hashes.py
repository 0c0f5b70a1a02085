"""Hashes of the content of corpus files, remembered for large ones that have not changed since."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.models import model_cache
from retrieval.reading.places import Found, is_remote, open_file, unreadable

_REMEMBERED_FROM = 1 << 20
_BLOCK = 1 << 20
_THREADS = 4
_MOST_KEPT = 100_000


def hashes_of(files: Sequence[Found]) -> list[str]:
    """Return a hash of the content of each file; an object of a store has its version for a hash."""
    known = _remembered()
    with ThreadPoolExecutor(_THREADS) as threads:
        hashes = list(threads.map(lambda file: known.get(_name(file)) or _hash(file), files))
    fresh = {
        _name(file): value
        for file, value in zip(files, hashes, strict=True)
        if file.size >= _REMEMBERED_FROM and not is_remote(file.url)
    }
    if fresh.keys() - known.keys():
        _remember(known | fresh)
    return hashes


def _hash(file: Found) -> str:
    if is_remote(file.url):
        return f"etag:{file.version}"
    content = hashlib.blake2b(digest_size=16)
    with open_file(file.url) as data:
        try:
            while block := data.read(_BLOCK):
                content.update(block)
        except OSError as error:
            raise unreadable(file.url, error) from error
    return content.hexdigest()


def _name(file: Found) -> str:
    return f"{file.url}:{file.size}:{file.version}"


def _path() -> Path:
    return model_cache().parent / "hashes.json"


def _remembered() -> dict[str, str]:
    try:
        data = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # It only saves time: without it, or with one that is damaged, everything is hashed again.
        return {}
    return {str(name): str(value) for name, value in data.items()} if isinstance(data, dict) else {}


def _remember(hashes: dict[str, str]) -> None:
    path = _path()
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    kept = dict(list(hashes.items())[-_MOST_KEPT:])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(kept), encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
