"""Bedrock's runtime to test against: real HTTP, Converse answers, and every fault that a test asks for."""

import asyncio
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from synth.records import Prompt, Reply, Sampling
from synth.teachers import patience
from synth.teachers.bedrock_backend import BedrockSettings

MODEL = "anthropic.claude-3-haiku-20240307-v1:0"
KEY, SECRET = "AKIAQ3EXAMPLEKEYID77", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYzEXAMPLEKEY"
SESSION = "FwoGZXIvYXdzEDUmmySession"
SAMPLING = Sampling(0.7, 0.8, 50)
PROMPT_TOKENS, REPLY_TOKENS = 11, 7


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; `body` is what Converse was given."""

    at: float
    path: str
    model: str
    body: dict[str, Any]
    headers: Mapping[str, str]

    @property
    def prompt(self) -> str:
        """The text of the last message."""
        return "".join(block["text"] for block in self.body["messages"][-1]["content"])


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. `sent` is the share of the body that gets out; `after` how many seconds it takes."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    sent: float = 1.0
    after: float = 0.0


def converse(
    content: list[dict[str, Any]], stop: str = "end_turn", after: float = 0.0, **usage: Any
) -> Answer:
    """A whole answer of Converse."""
    counts = {"inputTokens": PROMPT_TOKENS, "outputTokens": REPLY_TOKENS, "totalTokens": 18} | usage
    message = {"role": "assistant", "content": content}
    answer = {
        "output": {"message": message},
        "stopReason": stop,
        "usage": counts,
        "metrics": {"latencyMs": 5},
    }
    return Answer(body=json.dumps(answer).encode(), after=after)


def said(text: str, stop: str = "end_turn", after: float = 0.0, **usage: Any) -> Answer:
    """An answer that is one text."""
    return converse([{"text": text}], stop, after, **usage)


def tool(given: Any, stop: str = "tool_use", name: str = "reply") -> Answer:
    """An answer that calls a tool."""
    use = {"toolUse": {"toolUseId": "t1", "name": name, "input": given}}
    return converse([{"text": "I will."}, use], stop)


def error(status: int, code: str, message: str = "no", **headers: str) -> Answer:
    """An error as AWS sends it."""
    named = {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return Answer(status, json.dumps({"message": message}).encode(), named)


THROTTLED = error(429, "ThrottlingException", "Too many requests, please wait before trying again.")


def invalid(message: str) -> Answer:
    """A ValidationException."""
    return error(400, "ValidationException", message)


def page(status: int) -> Answer:
    """A web page, as proxies send them."""
    return Answer(status, b"<html><body>It works!</body></html>", {"Content-Type": "text/html"})


Answering = Callable[[Asked], Answer]


class BedrockEndpoint(ThreadingHTTPServer):
    """Answers with what is in `next` first, and then as `answering` says."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[Asked] = []
        self.next: deque[Answer] = deque()
        self.answering: Answering = lambda asked: said(f"Re: {asked.prompt}.")
        self.inside = self.most_inside = 0
        self.closing = threading.Event()
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """What `endpoint_url` is set to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, asked: Asked) -> Answer:
        """Note a request, and decide on its answer."""
        with self._lock:
            self.asked.append(asked)
            return self.next.popleft() if self.next else self.answering(asked)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count a request that is under way."""
        with self._lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            yield
        finally:
            with self._lock:
                self.inside -= 1


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: BedrockEndpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = self.path.split("/")
        asked = Asked(time.monotonic(), self.path, unquote(parts[2]), body, dict(self.headers))
        with self.server.working():
            answer = self.server.answer(asked)
            self.server.closing.wait(answer.after)
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | dict(answer.headers)).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body[: int(len(answer.body) * answer.sent)])
        if answer.sent < 1:
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def bedrock_endpoint() -> Iterator[BedrockEndpoint]:
    """Serve until the end of the block."""
    server = BedrockEndpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use_credentials(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Put credentials into the environment and nothing else of AWS; let failures be repeated at once."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SESSION)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(patience, "BACKOFF_SECONDS", 0.01)


def teacher(url: str | None = None, **more: Any) -> BedrockSettings:
    """Settings of a teacher behind an address."""
    return BedrockSettings(**({"model": MODEL, "region": "us-east-1", "endpoint_url": url} | more))


async def ask(
    server: BedrockEndpoint, *prompts: Prompt, sampling: Sampling = SAMPLING, **more: Any
) -> list[Reply]:
    """Give prompts to an engine of their own, all at once."""
    engine = await teacher(server.url, **more).engine()
    try:
        return await asyncio.gather(*(engine.generate(prompt, sampling, 0) for prompt in prompts))
    finally:
        await engine.close()
