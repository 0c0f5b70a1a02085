"""An OpenAI-compatible endpoint to test against; it misbehaves on demand, at a rate, or when overloaded."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Literal

from aiohttp import web

Fault = Literal[
    "200 error", "400", "400 format", "401", "402", "403", "403 flagged", "404 model", "404 path", "413",
    "422", "429", "429 date", "429 quota", "500", "502", "503", "503 html", "aborted", "broken json", "cut",
    "disconnect", "empty", "filtered", "hang", "html", "no usage", "redirect", "refusal", "surrogate",
]  # fmt: skip
KEY = "sk-proj-9f8e7d6c5b4a39281706"
"""A key that nobody may see."""
PASSING: tuple[Fault, ...] = ("429", "html", "cut", "broken json", "empty", "500", "502", "503", "disconnect")
"""What passes when the same is asked again."""
_FIRST = ("ba", "de", "fi", "go", "lu", "ma", "ne", "ro")
_VOCABULARY = [first + last for first in _FIRST for last in ("dak", "fer", "gim", "wol")]
_ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "429 quota": (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}),
    "402": (402, {"message": "Insufficient credits"}),
    "403": (403, {"message": "no access"}),
    "403 flagged": (403, {"message": "the input was flagged by moderation"}),
    "404 model": (404, {"message": "The model `m` does not exist.", "code": "model_not_found"}),
    "400": (400, {"message": "This model's maximum context length is 512 tokens.", "param": "messages"}),
    "400 format": (400, {"message": "this response_format is unavailable now"}),
    "413": (413, {"message": "too large"}),
    "422": (422, {"message": "unprocessable"}),
    "500": (500, {"message": "on demand"}),
}


@dataclass(slots=True)
class _Wanted:
    fault: Fault
    times: int
    part: str
    retry_after: float


@dataclass
class Endpoint:
    """What the endpoint is to do, and what it saw."""

    seats: int | None = None
    """Requests answered together; one more gets a 429."""
    seconds: float = 0.0
    """Time that a reply takes."""
    rate: float = 0.0
    """Share of requests that fail in one of the ways that pass."""
    key: str | None = None
    """The key that is accepted; None: no matter which."""
    takes: set[str] = field(default_factory=set)
    """Oddities: only max_completion_tokens, no temperature, few stops, no response_format, chats."""
    url: str = ""
    served: Counter[str] = field(default_factory=Counter)
    """Requests answered properly, by path."""
    struck: Counter[str] = field(default_factory=Counter)
    seen: list[dict[str, Any]] = field(default_factory=list)
    """Bodies of all requests."""
    headers: list[dict[str, str]] = field(default_factory=list)
    inside: int = 0
    most: int = 0
    """Requests that were being answered at once, at most."""
    times: list[float] = field(default_factory=list)
    """When each request came."""
    peaks: list[int] = field(default_factory=list)
    """Requests inside as each came, itself among them."""

    def __post_init__(self) -> None:
        self._wanted: list[_Wanted] = []
        self._random = random.Random(7)

    def demand(self, fault: Fault, times: int = 1, part: str = "", retry_after: float = 0.0) -> None:
        """Let the next requests whose body has a part fail."""
        self._wanted.append(_Wanted(fault, times, part, retry_after))

    def calm(self) -> None:
        """Let nothing fail any more."""
        self._wanted.clear()
        self.rate, self.seats = 0.0, None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        text = await request.text()
        body = json.loads(text)
        self.seen.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        self.inside += 1
        self.peaks.append(self.inside)
        try:
            if self.seats is not None and self.inside > self.seats:
                self.struck["too many"] += 1
                return _error(429, {"message": "too many requests"})
            self.most = max(self.most, self.inside)
            return await self._answer(request, body, text)
        finally:
            self.inside -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], text: str) -> web.StreamResponse:
        if self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}":
            given = request.headers.get("Authorization")
            return _error(401, {"message": f"Incorrect API key provided: {given}"})
        wanted = self._fate(text)
        if wanted is not None:
            self.struck[wanted.fault] += 1
            early = await self._misbehave(request, wanted)
            if early is not None:
                return early
        if odd := self._odd(request.path, body):
            return odd
        await asyncio.sleep(self.seconds)
        self.served[request.path] += 1
        return web.json_response(self._reply(body, wanted.fault if wanted else None))

    def _fate(self, text: str) -> _Wanted | None:
        for wanted in self._wanted:
            if wanted.times and wanted.part in text:
                wanted.times -= 1
                return wanted
        if self._random.random() < self.rate:
            return _Wanted(self._random.choice(PASSING), 1, "", 0.0)
        return None

    def _odd(self, path: str, body: dict[str, Any]) -> web.Response | None:
        if "only max_completion_tokens" in self.takes and "max_tokens" in body:
            said = (
                "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead."
            )
            return _error(400, {"message": said, "param": "max_tokens", "code": "unsupported_parameter"})
        if "no temperature" in self.takes and "temperature" in body:
            said = "Unsupported value: 'temperature' does not support 0.5. Only the default (1) is supported."
            return _error(400, {"message": said, "param": "temperature", "code": "unsupported_value"})
        if "few stops" in self.takes and len(body.get("stop", ())) > 4:
            return _error(400, {"message": "Invalid 'stop': array too long", "param": "stop"})
        if "no response_format" in self.takes and "response_format" in body:
            return _error(400, {"message": "json_schema is not available"})
        if "chats" in self.takes and path.endswith("/v1/completions"):
            return _error(404, {"message": "Not Found"})
        return None

    async def _misbehave(self, request: web.Request, wanted: _Wanted) -> web.StreamResponse | None:
        fault = wanted.fault
        if fault in _ERRORS:
            return _error(*_ERRORS[fault])
        if fault in ("429", "429 date", "503"):
            return _busy(fault, wanted.retry_after)
        if fault in ("html", "502", "503 html", "404 path"):
            status = 200 if fault == "html" else int(fault[:3])
            return web.Response(
                status=status, text="<html><body>hello</body></html>", content_type="text/html"
            )
        if fault == "401":
            return _error(401, {"message": f"wrong key {request.headers.get('Authorization')}"})
        if fault == "hang":
            await asyncio.sleep(60)
        if fault == "disconnect":
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if fault == "cut":
            return await _cut(request)
        if fault == "broken json":
            return web.Response(text='{"choices": [{"mess', content_type="application/json")
        if fault == "200 error":
            return web.json_response({"error": {"message": "upstream", "code": 502}})
        if fault == "redirect":
            return web.Response(status=301, headers={"Location": "http://elsewhere.example/v1?x=1"})
        return None

    def _reply(self, body: dict[str, Any], fault: Fault | None) -> dict[str, Any]:
        if fault == "empty":
            return {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        prompt = body.get("prompt") or " ".join(turn["content"] for turn in body["messages"])
        text, reason = _write(body, prompt)
        if fault == "filtered":
            reason = "content_filter"
        if fault == "aborted":
            reason = "abort"
        if fault == "surrogate":
            text = "half \ud83d of it"
        message = {"role": "assistant", "content": text}
        if fault == "refusal":
            message = {
                "role": "assistant",
                "content": None,
                "refusal": "I'm sorry, but I can't help with that.",
            }
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason}
        choice |= {"text": text} if "prompt" in body else {"message": message}
        reply: dict[str, Any] = {"choices": [choice]}
        if fault != "no usage":
            reply["usage"] = {"prompt_tokens": len(prompt.split()), "completion_tokens": len(text.split())}
        return reply


def _write(body: dict[str, Any], prompt: str) -> tuple[str, str]:
    """Return words drawn from the prompt, as many as are allowed, or what a schema asks for."""
    if "response_format" in body:
        properties = body["response_format"]["json_schema"]["schema"]["properties"]
        values = {name: each.get("enum", [f"a {name}"])[-1] for name, each in properties.items()}
        return json.dumps(values), "stop"
    most = body.get("max_tokens") or body["max_completion_tokens"]
    # A server draws anew each time.
    text = " ".join(random.choices(_VOCABULARY, k=13))
    for stop in body.get("stop", ()):
        text = text.partition(stop)[0]
    kept = text.split()[:most]
    return " ".join(kept), "length" if len(kept) < len(text.split()) else "stop"


def _error(status: int, error: dict[str, Any]) -> web.Response:
    return web.json_response({"error": error}, status=status)


def _busy(fault: str, seconds: float) -> web.Response:
    headers = {}
    if seconds:
        when = formatdate(time.time() + seconds, usegmt=True)
        headers["Retry-After"] = when if fault == "429 date" else f"{seconds:g}"
    status = int(fault[:3])
    return web.json_response({"error": {"message": "slow down"}}, status=status, headers=headers)


async def _cut(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "half a')
    assert request.transport is not None
    request.transport.close()
    return response


@contextmanager
def serving(**more: Any) -> Iterator[Endpoint]:
    """Run an endpoint in a thread of its own; `url` is what a recipe calls base_url."""
    endpoint = Endpoint(**more)
    loop = asyncio.new_event_loop()
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/completions", endpoint.handle)
        app.router.add_post("/v1/chat/completions", endpoint.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        endpoint.url = f"http://127.0.0.1:{port}/v1"
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield endpoint
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()


@contextmanager
def deaf() -> Iterator[str]:
    """Listen on a port and never answer; gives the base URL."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def closed_port() -> str:
    """Return a base URL where nobody listens."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
