"""Reading parts of an object, all of one version of it."""

import io
from contextlib import closing
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from botocore.exceptions import ClientError, IncompleteReadError

from cluster.errors import StorageError
from cluster.s3_client import patient, status
from cluster.store import Entry

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

RANGE = 8 * 2**20
"""Bytes asked for at a time."""


class Replaced(StorageError):
    """The object was replaced between two reads of its parts."""


def body(client: Any, **wanted: Any) -> bytes:
    """Return what one GET asks for; an error of botocore's when the connection ends before the body does."""
    answer = client.get_object(**wanted)
    with closing(answer["Body"]) as stream:
        data = bytes(stream.read())
    if len(data) != answer["ContentLength"]:
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=answer["ContentLength"])
    return data


def piece(client: Any, bucket: str, name: str, version: str, start: int, length: int) -> bytes:
    """Return length bytes of one version of an object from start on.

    Replaced when it is another version by now.
    """
    url = f"s3://{bucket}/{name}"

    def get() -> bytes:
        part = f"bytes={start}-{start + length - 1}"
        try:
            return body(client, Bucket=bucket, Key=name, Range=part, IfMatch=f'"{version}"')
        except ClientError as error:
            if status(error) in (404, 412, 416):
                raise Replaced(f"{url}: was replaced or removed while it was read; read it again") from error
            raise

    data = patient(url, get)
    if len(data) != length:
        raise StorageError(f"{url}: the object store answers a range of {length} bytes with {len(data)}")
    return data


class _Ranges(io.RawIOBase):
    """An object as a raw file: each read is one ranged GET."""

    def __init__(self, client: Any, bucket: str, name: str, entry: Entry) -> None:
        self._client = client
        self._bucket = bucket
        self._name = name
        self._entry = entry
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._entry.size}[whence]
        if origin + offset < 0:
            raise ValueError(f"negative seek position {origin + offset}")
        self._place = origin + offset
        return self._place

    def readinto(self, buffer: "WriteableBuffer") -> int:
        target = memoryview(buffer).cast("B")
        length = min(len(target), self._entry.size - self._place)
        if length <= 0:
            return 0
        version = self._entry.version
        target[:length] = piece(self._client, self._bucket, self._name, version, self._place, length)
        self._place += length
        return length

    def readall(self) -> bytes:
        # The inherited one asks for eight KiB at a time.
        buffer = bytearray(max(0, self._entry.size - self._place))
        with memoryview(buffer) as rest:
            for start in range(0, len(buffer), RANGE):
                self.readinto(rest[start : start + RANGE])
        return bytes(buffer)


def open_object(client: Any, bucket: str, name: str, entry: Entry) -> BinaryIO:
    """Return an object as a file that reads ahead one range and can seek."""
    raw = _Ranges(client, bucket, name, entry)
    return cast(BinaryIO, io.BufferedReader(raw, max(1, min(RANGE, entry.size))))
