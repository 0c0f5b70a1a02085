"""A store in a bucket of Amazon S3, or of anything that speaks its language.

The endpoint comes from AWS_ENDPOINT_URL and credentials from where boto3 looks for them on each machine: an
S3Store that is pickled carries its place alone. Folders are not atomic: only single objects are.
"""

import os
import re
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from cluster.errors import StorageError
from cluster.s3_cache import cached
from cluster.s3_client import client, is_absent, patient, refusal, status
from cluster.s3_reader import Replaced, body, open_object
from cluster.s3_transfer import THREADS, delete_below, delete_names, download, listed, upload_file
from cluster.store import Entries, Entry, is_hidden, normal_key

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
_TOKEN = "nightshift-token"
_REPLACED = 5
_REACH_SECONDS = 9.0


def s3_store(place: str) -> "S3Store":
    """Return the store at BUCKET/PREFIX, without touching it; StorageError when it cannot be one."""
    bucket, _, prefix = place.partition("/")
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    if "@" in place.partition("/")[0] or (endpoint and urlsplit(endpoint).username):
        raise StorageError(
            "s3: credentials have no place in the name of a store or of an endpoint; set AWS_PROFILE"
        )
    if not _BUCKET.fullmatch(bucket):
        raise StorageError(f"s3://{place}: names no bucket; give s3://BUCKET/PREFIX")
    if endpoint and urlsplit(endpoint).scheme not in ("http", "https"):
        raise StorageError(
            f"AWS_ENDPOINT_URL {endpoint}: is no address; give http://HOST:PORT or https://HOST"
        )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
    return S3Store(bucket, normal_key(prefix.strip("/"), f"s3://{bucket}"), endpoint, region)


@dataclass(frozen=True, slots=True)
class S3Store:
    """Objects below a prefix of a bucket. Whatever boto3 meets with is raised as StorageError."""

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None

    @property
    def url(self) -> str:
        return f"s3://{self.path}"

    @property
    def path(self) -> str:
        """Bucket and prefix, as pyarrow wants them."""
        return f"{self.bucket}/{self.prefix}".rstrip("/")

    def read(self, key: str) -> bytes:
        whole = partial(body, self._client, Bucket=self.bucket, Key=self._name(key))
        return patient(self._url(key), whole)

    def open(self, key: str) -> BinaryIO:
        entry = self._entry(key)
        if entry is None:
            raise StorageError(f"{self._url(key)}: is not there")
        return open_object(self._client, self.bucket, self._name(key), entry)

    def write(self, key: str, data: bytes) -> None:
        put = partial(self._client.put_object, Bucket=self.bucket, Key=self._name(key), Body=data)
        patient(self._url(key), put)

    def create(self, key: str, data: bytes) -> bool:
        name, token, client = self._name(key), uuid.uuid4().hex, self._client
        whose = {_TOKEN: token}

        def put() -> bool:
            try:
                client.put_object(Bucket=self.bucket, Key=name, Body=data, IfNoneMatch="*", Metadata=whose)
            except ClientError as error:
                if status(error) != 412:
                    raise
                # A put whose answer was lost is sent again, and then finds its own object there.
                return self._token(name) == token
            return True

        return patient(self._url(key), put)

    def append(self, key: str, data: bytes) -> None:
        # Objects cannot grow: the whole is put anew, which only its one owner may do.
        self.write(key, (self.read(key) if self._entry(key) else b"") + data)

    def exists(self, key: str) -> bool:
        if key and self._entry(key) is not None:
            return True
        look = partial(self._client.list_objects_v2, Bucket=self.bucket, Prefix=self._folder(key), MaxKeys=1)
        return bool(patient(self._url(key), look).get("KeyCount"))

    def list(self, prefix: str) -> list[str]:
        return [entry.key for entry in self._below(prefix)]

    def entries(self, prefix: str) -> Entries:
        found = self._below(prefix)
        if not found and prefix and (entry := self._entry(prefix)) is not None:
            return [entry]
        return found

    def delete(self, key: str) -> None:
        if name := self._name(key):
            delete_names(self._client, self.bucket, [name])
        delete_below(self._client, self.bucket, self._folder(key))

    def fetch(self, key: str) -> Path:
        for _ in range(_REPLACED):
            entry = self._entry(key) if key else None
            files = [replace(entry, key="")] if entry else self._relative(key)
            if not files:
                raise StorageError(f"{self._url(key)}: is not there")
            prefix = self._name(key) if entry else self._folder(key)
            try:
                return self._cached(key, prefix, files)
            except Replaced:
                continue
        raise StorageError(f"{self._url(key)}: is replaced again and again while it is read; try again later")

    def upload(self, key: str, path: Path) -> None:
        name, folder = self._name(key), self._folder(key)
        if not path.exists():
            raise StorageError(f"{path}: is not there; nothing was uploaded to {self._url(key)}")
        if not path.is_dir():
            upload_file(self._client, self.bucket, name, path)
            delete_below(self._client, self.bucket, folder)
            return
        files = [found for found in sorted(path.rglob("*")) if found.is_file()]
        names = [folder + file.relative_to(path).as_posix() for file in files]
        with ThreadPoolExecutor(THREADS) as pool:
            pairs = zip(names, files, strict=True)
            for _ in pool.map(lambda pair: upload_file(self._client, self.bucket, *pair), pairs):
                pass
        # Last, so that at no time a reader misses a file that both the old folder and the new one have.
        if name and self._entry(key) is not None:
            delete_names(self._client, self.bucket, [name])
        delete_below(self._client, self.bucket, folder, keep=names)

    def within(self, prefix: str) -> "S3Store":
        return replace(self, prefix=self._name(prefix))

    def reach(self) -> None:
        """Raise StorageError within ten seconds when the bucket cannot be reached or refuses this machine."""
        answers: Queue[StorageError | None] = Queue()
        # Looking up a name has no time limit of its own.
        Thread(target=lambda: answers.put(self._greet()), daemon=True, name="s3-reach").start()
        try:
            answer = answers.get(timeout=_REACH_SECONDS)
        except Empty:
            where = f" at {self.endpoint}" if self.endpoint else ""
            raise StorageError(
                f"{self.url}: the object store{where} cannot be reached (no answer in {_REACH_SECONDS:.0f} s)"
                "; check the network and AWS_ENDPOINT_URL"
            ) from None
        if answer is not None:
            raise answer

    def arrow(self) -> Any:
        """Return pyarrow's file system for the bucket; it looks for credentials where it is used."""
        from pyarrow import fs

        patience = {
            "connect_timeout": 5,
            "request_timeout": 30,
            "retry_strategy": fs.AwsStandardS3RetryStrategy(max_attempts=8),
        }
        if self.endpoint is None:
            return fs.S3FileSystem(region=self.region or fs.resolve_s3_region(self.bucket), **patience)
        place = urlsplit(self.endpoint)
        return fs.S3FileSystem(
            region=self.region or "us-east-1",
            scheme=place.scheme,
            endpoint_override=f"{place.netloc}{place.path}".rstrip("/"),
            **patience,
        )

    @property
    def _client(self) -> Any:
        try:
            return client(self.endpoint, self.region)
        except (BotoCoreError, ValueError) as error:
            raise refusal(self.url, error) from error

    def _greet(self) -> StorageError | None:
        try:
            client(self.endpoint, self.region, hasty=True).head_bucket(Bucket=self.bucket)
        except ClientError as error:
            # A HEAD has no body: 404 can mean the bucket only. A store that is busy is there.
            if status(error) == 404:
                error.response["Error"]["Code"] = "NoSuchBucket"
            return None if status(error) >= 500 else refusal(self.url, error)
        except (BotoCoreError, ValueError) as error:
            return refusal(self.url, error)
        return None

    def _entry(self, key: str) -> Entry | None:
        found = patient(self._url(key), lambda: self._head(self._name(key)))
        return Entry(key, found["ContentLength"], found["ETag"].strip('"')) if found else None

    def _token(self, name: str) -> str | None:
        return self._head(name).get("Metadata", {}).get(_TOKEN)

    def _head(self, name: str) -> dict[str, Any]:
        """Return what is told of an object; empty when it is not there."""
        try:
            return dict(self._client.head_object(Bucket=self.bucket, Key=name))
        except ClientError as error:
            if is_absent(error):
                return {}
            raise

    def _below(self, prefix: str) -> Entries:
        skipped = len(self._folder(""))
        found = listed(self._client, self.bucket, self._folder(prefix))
        # Some tools leave an object whose name ends in a slash as the mark of a folder.
        inside = [replace(entry, key=entry.key[skipped:]) for entry in found if not entry.key.endswith("/")]
        return [entry for entry in inside if not is_hidden(entry.key)]

    def _relative(self, key: str) -> Entries:
        skipped = len(f"{normal_key(key, self.url)}/") if key else 0
        return [replace(entry, key=entry.key[skipped:]) for entry in self._below(key)]

    def _cached(self, key: str, prefix: str, files: Entries) -> Path:
        return cached(
            self.endpoint or "",
            self._url(key),
            files,
            lambda target: download(self._client, self.bucket, prefix, files, target),
        )

    def _name(self, key: str) -> str:
        """Return the full name of an object in the bucket."""
        normal = normal_key(key, self.url)
        return f"{self.prefix}/{normal}".strip("/")

    def _folder(self, key: str) -> str:
        """Return what the full names below a folder start with; empty for the whole bucket."""
        name = self._name(key)
        return f"{name}/" if name else ""

    def _url(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"
