"""Moving whole files and folders to and from a bucket, in parts and by several threads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from cluster.s3_client import patient
from cluster.s3_reader import RANGE, piece
from cluster.store import Entry

THREADS = 8
_BATCH = 1000
_UPLOAD = TransferConfig(multipart_threshold=2 * RANGE, multipart_chunksize=2 * RANGE, max_concurrency=4)


def listed(client: Any, bucket: str, prefix: str) -> list[Entry]:
    """Return every object whose full name starts with prefix, hidden ones and folder marks too."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return patient(
        f"s3://{bucket}/{prefix}",
        lambda: [
            Entry(found["Key"], found["Size"], found["ETag"].strip('"'))
            for page in pages
            for found in page.get("Contents", ())
        ],
    )


def delete_names(client: Any, bucket: str, names: Sequence[str]) -> None:
    """Delete objects by full name, a thousand at a time."""
    for start in range(0, len(names), _BATCH):
        batch = [{"Key": name} for name in names[start : start + _BATCH]]
        patient(f"s3://{bucket}/{names[start]}", partial(_delete, client, bucket, batch))


def _delete(client: Any, bucket: str, batch: list[dict[str, str]]) -> None:
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})
    for error in answer.get("Errors", ()):
        raise ClientError({"Error": error}, "DeleteObjects")


def delete_below(client: Any, bucket: str, prefix: str, keep: Sequence[str] = ()) -> None:
    """Delete every object whose full name starts with prefix, but those to keep."""
    kept = set(keep)
    delete_names(client, bucket, [e.key for e in listed(client, bucket, prefix) if e.key not in kept])


def upload_file(client: Any, bucket: str, name: str, path: Path) -> None:
    """Put a file, in parts when it is large; OSError when it cannot be read."""
    patient(f"s3://{bucket}/{name}", lambda: client.upload_file(str(path), bucket, name, Config=_UPLOAD))


def download(client: Any, bucket: str, prefix: str, files: Sequence[Entry], target: Path) -> None:
    """Write the objects `prefix + key` to target, or below it, each in the version that its entry tells.

    Replaced when one is of another version by now.
    """
    for file in files:
        path = target / file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as empty:
            empty.truncate(file.size)

    def transfer(part: tuple[Entry, int]) -> None:
        file, start = part
        length = min(RANGE, file.size - start)
        data = piece(client, bucket, prefix + file.key, file.version, start, length)
        with (target / file.key).open("r+b") as out:
            out.seek(start)
            out.write(data)

    parts = [(file, start) for file in files for start in range(0, file.size, RANGE)]
    with ThreadPoolExecutor(min(THREADS, max(1, len(parts)))) as pool:
        try:
            for _ in pool.map(transfer, parts):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
