"""The client of an object store: made once per process, patient with faults, and clear about refusals."""

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import boto3
from boto3.exceptions import Boto3Error
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from botocore.parsers import ResponseParserError

from cluster.errors import StorageError

Answer = TypeVar("Answer")
ERRORS = (BotoCoreError, Boto3Error, ClientError, ResponseParserError)
"""What boto3 raises."""
_CREDENTIALS = (
    NoCredentialsError, PartialCredentialsError, CredentialRetrievalError, ProfileNotFound, SSOError,
)  # fmt: skip
_NETWORK = (
    ConnectionError, FlexibleChecksumError, HTTPClientError, IncompleteReadError, ResponseParserError,
)  # fmt: skip
_ABSENT = {"NoSuchKey", "404", "NotFound"}
_DENIED = {"AccessDenied", "AllAccessDisabled", "403", "Forbidden", "401", "Unauthorized"}
_UNKNOWN_CALLER = {
    "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}  # fmt: skip
# Conflict: somebody else puts or deletes the object at this very moment. No such upload: completing one whose
# answer was lost fails the second time.
_PASSING = {
    "ConditionalRequestConflict", "InternalError", "NoSuchUpload", "OperationAborted", "RequestTimeout",
    "ServiceUnavailable", "SlowDown", "ThrottlingException",
}  # fmt: skip
_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20.0, 20.0, 20.0)
_PATIENT = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
)
_HASTY = Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 2})
_clients: dict[object, Any] = {}
_lock = threading.Lock()


def client(endpoint: str | None, region: str | None, hasty: bool = False) -> Any:
    """Return this process's S3 client for an endpoint; a hasty one gives up within seconds.

    Credentials come from where boto3 looks for them on this machine. Safe to call and to use from threads.
    """
    # Clients share sockets, which must not be shared with a forked child; tests change the environment.
    settings = tuple(sorted((name, os.environ[name]) for name in os.environ if name.startswith("AWS_")))
    wanted = (os.getpid(), endpoint, region, hasty, hash(settings))
    with _lock:
        if wanted not in _clients:
            # A session of its own: boto3's default one keeps the environment it first saw.
            _clients[wanted] = boto3.session.Session().client(
                "s3", endpoint_url=endpoint, region_name=region, config=_HASTY if hasty else _PATIENT
            )
        return _clients[wanted]


def patient(url: str, call: Callable[[], Answer]) -> Answer:
    """Return what call returns; while the store or the network fails it is called again, a minute or more.

    boto3 retries requests too, but not the bodies of answers, and it stops when faults have been many.
    Any other error of boto3's becomes a StorageError that names the url, the reason and the remedy.
    """
    for wait in (*_WAITS, None):
        try:
            return call()
        except ERRORS as error:
            if wait is None or not _passes(error):
                raise refusal(url, error) from error
        time.sleep(wait * (0.5 + random.random() / 2))
    raise AssertionError("the last call returns or raises")


def refusal(url: str, error: Exception) -> StorageError:
    """Return the StorageError that tells of an error of boto3's; no secret is part of it."""
    error = _cause(error)
    if isinstance(error, ClientError):
        return StorageError(f"{url}: {_answer(error)}")
    if isinstance(error, _CREDENTIALS):
        return StorageError(
            f"{url}: no credentials were found ({_first_line(error)}); set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the machine a role, on every node"
        )
    if isinstance(error, _NETWORK):
        return StorageError(
            f"{url}: the object store cannot be reached ({_first_line(error)}); check the network and "
            "AWS_ENDPOINT_URL"
        )
    return StorageError(f"{url}: {_first_line(error)}")


def status(error: ClientError) -> int:
    """Return the HTTP status of an answer that refuses."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_absent(error: ClientError) -> bool:
    """Say whether an answer means that the object is not there (and not that its bucket is not)."""
    return _code(error) in _ABSENT


def _answer(error: ClientError) -> str:
    code = _code(error)
    if code == "NoSuchBucket":
        return "there is no such bucket; create it, or correct its name with --set store=s3://BUCKET/PREFIX"
    if code in _ABSENT:
        return "is not there"
    if code in _UNKNOWN_CALLER:
        return f"the credentials are refused ({code}); renew them"
    if code in _DENIED:
        return (
            f"access is denied ({code}); the credentials need s3:ListBucket on the bucket, and s3:GetObject, "
            "s3:PutObject and s3:DeleteObject below the prefix"
        )
    if code == "NotImplemented":
        return "the object store does not know conditional puts (If-None-Match: *), which runs need"
    if status(error) >= 500 or code in _PASSING:
        return f"the object store keeps failing ({code}); run the same command again later"
    message = str(error.response.get("Error", {}).get("Message", "")).splitlines()
    return f"the object store refuses ({code}: {message[0][:200] if message else 'no reason given'})"


def _passes(error: Exception) -> bool:
    cause = _cause(error)
    if isinstance(cause, ClientError):
        return _code(cause) in _PASSING or status(cause) in (429, 500, 502, 503, 504)
    return isinstance(cause, _NETWORK)


def _cause(error: Exception) -> Exception:
    # boto3's transfers wrap what botocore raises.
    wrapped = error.__context__
    return wrapped if isinstance(error, Boto3Error) and isinstance(wrapped, ERRORS) else error


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
