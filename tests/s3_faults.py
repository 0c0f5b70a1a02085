"""An object store to test against: moto's server behind a proxy that fails on demand as real ones do."""

import http.client
import logging
import os
import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import boto3
from moto.server import ThreadedMotoServer

Fault = Literal["500", "503", "cut before", "cut after", "500 after", "cut body"]
"""Answered unforwarded (500, 503 SlowDown); cut before or after it is forwarded; forwarded, then answered
with 500; answered, but cut in the middle of the body."""
FAULTS: tuple[Fault, ...] = ("500", "503", "cut before", "cut after", "500 after", "cut body")
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>on demand</Message>'
    "<RequestId>1</RequestId></Error>"
)


@dataclass(slots=True)
class _Wanted:
    fault: Fault
    method: str
    part: str
    times: int
    after: int


class FaultyS3(ThreadingHTTPServer):
    """The proxy. Faults are either demanded one by one, or strike at a rate."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.rate = 0.0
        self.served: Counter[str] = Counter()
        self.struck: Counter[str] = Counter()
        self.writing = threading.Lock()
        self._wanted: list[_Wanted] = []
        self._random = random.Random(7)
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The endpoint that clients are given."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def demand(self, fault: Fault, method: str = "", part: str = "", times: int = 1, after: int = 0) -> None:
        """Let the next requests of a method, whose path has a part, fail; those after so many of them."""
        with self._lock:
            self._wanted.append(_Wanted(fault, method, part, times, after))

    def calm(self) -> None:
        """Let nothing fail any more."""
        with self._lock:
            self._wanted.clear()
            self.rate = 0.0

    def fate(self, method: str, path: str) -> Fault | None:
        """Decide what happens to a request."""
        with self._lock:
            self.served[method] += 1
            fault = self._fate(method, path)
            if fault is not None:
                self.struck[fault] += 1
            return fault

    def _fate(self, method: str, path: str) -> Fault | None:
        for wanted in self._wanted:
            if wanted.times and wanted.method in ("", method) and wanted.part in path:
                if wanted.after:
                    wanted.after -= 1
                    continue
                wanted.times -= 1
                return wanted.fault
        if self._random.random() < self.rate:
            return self._random.choice(FAULTS)
        return None

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyS3
    # Without this an answer in two writes waits for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        sent = self._body()
        fault = self.server.fate(self.command, self.path)
        if fault in ("500", "503"):
            self._fail(int(fault))
            return
        if fault == "cut before":
            self.close_connection = True
            return
        answer, body = self._forward(sent)
        if fault == "cut after":
            self.close_connection = True
            return
        if fault == "500 after":
            self._fail(500)
            return
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "keep-alive"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        if answer.status != 204:
            self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault == "cut body" and body:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        self.wfile.flush()

    def handle_expect_100(self) -> bool:
        """Say at once that the body may come; the client waits a second for it."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _forward(self, sent: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=60)
        skipped = ("connection", "expect", "transfer-encoding", "content-length")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in skipped}
        if self.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(sent))
        try:
            # moto looks whether an object is there and puts it in two steps; a real store does both at once.
            with self.server.writing:
                upstream.request(self.command, self.path, sent or None, headers)
                answer = upstream.getresponse()
                return answer, answer.read()
        finally:
            upstream.close()

    def _fail(self, status: int) -> None:
        body = _ERROR.format("SlowDown" if status == 503 else "InternalError").encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


def credentials(endpoint: str) -> dict[str, str]:
    """Return the environment of a user of the test's object store, who has no other place to look."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "a-secret-that-nobody-may-see",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextmanager
def faulty_s3() -> Iterator[FaultyS3]:
    """Run moto's server and the proxy before it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    proxy = FaultyS3(moto.get_host_and_port())
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()


def new_bucket(proxy: FaultyS3) -> str:
    """Make an empty bucket and return its name."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    given = credentials(proxy.url)
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=proxy.url,
        region_name="us-east-1",
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=name)
    client.close()
    return name
