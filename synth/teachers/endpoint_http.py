"""Requests over HTTP connections that are kept: an answer comes back, or a fault that says why not."""

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from synth.teachers.endpoint_faults import Answer, Fault, Kind, is_page, judge, parsed
from synth.teachers.endpoint_words import Place, Scrub

CONNECT_SECONDS = 15.0
KEPT_SECONDS = 4.0
"""An idle connection is kept so long: a common server (uvicorn) closes one after five seconds."""
LARGEST = 32 * 2**20
"""Bytes of an answer; one that is larger is no reply."""


class Wire:
    """The connections to one endpoint. The key is in the requests and in nothing that is ever shown."""

    def __init__(self, base_url: str, place: Place, key: str | None, timeout: float) -> None:
        import aiohttp

        self.scrub = Scrub(key)
        self._place = place
        self._base, mark, query = base_url.partition("?")
        self._query = mark + query
        self._proxy = _proxy(base_url)
        self._seconds = timeout
        headers = {"Content-Type": "application/json", "User-Agent": "nightshift"}
        self._session = aiohttp.ClientSession(
            # Pacing limits how many there are.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_SECONDS),
            timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_SECONDS, timeout)),
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def post(self, path: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object that a request is answered with. Errors: Fault."""
        # Half of a pair of surrogates has no bytes; it is sent as a question mark.
        body = json.dumps(request, ensure_ascii=False).encode("utf-8", "replace")
        answer = await self._send(f"{self._base.rstrip('/')}{path}{self._query}", body)
        if answer.status != 200:
            raise judge(answer, self._place, path, self.scrub)
        return self._read(answer, path)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _read(self, answer: Answer, path: str) -> dict[str, Any]:
        if is_page(answer.body):
            raise Fault(Kind.AGAIN, "it answers with a web page")
        try:
            data = parsed(answer.body)
        except ValueError:
            raise Fault(Kind.AGAIN, "it answers with broken JSON") from None
        if not isinstance(data, dict):
            raise Fault(Kind.AGAIN, "it answers with JSON that is no object")
        if data.get("error") and not data.get("choices"):
            # Some endpoints say 200 and mean something else.
            raise judge(
                Answer(_status(data["error"]), answer.headers, answer.body), self._place, path, self.scrub
            )
        return data

    async def _send(self, url: str, body: bytes) -> Answer:
        """Send a request. What aiohttp raises is not chained: it may hold the headers, with the key."""
        import aiohttp

        try:
            async with self._session.post(
                url, data=body, allow_redirects=False, proxy=self._proxy
            ) as response:
                return Answer(response.status, response.headers, await _all(response.content))
        except aiohttp.ClientConnectorCertificateError:
            raise Fault(Kind.AWAY, "no connection (its certificate cannot be verified)") from None
        except aiohttp.ClientConnectorError as error:
            raise Fault(Kind.AWAY, f"no connection ({_reason(error.os_error)})") from None
        except aiohttp.ConnectionTimeoutError:
            raise Fault(Kind.AWAY, "no connection (timed out)") from None
        except TimeoutError:
            raise Fault(Kind.SLOW, f"no reply within {self._seconds:g} s (teacher.timeout)") from None
        except aiohttp.ClientPayloadError:
            raise Fault(Kind.AGAIN, "its reply broke off") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Fault(Kind.AGAIN, f"the connection broke ({type(error).__name__})") from None


async def _all(content: Any) -> bytes:
    chunks, size = [], 0
    async for chunk in content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST:
            raise Fault(Kind.AGAIN, f"its reply is larger than {LARGEST // 2**20} MiB")
    return b"".join(chunks)


def _reason(error: OSError) -> str:
    said = error.strerror or str(error) or type(error).__name__
    # asyncio puts the address where the reason should be.
    return os.strerror(error.errno) if error.errno and said.startswith("Connect call failed") else said[:200]


def _status(error: Any) -> int:
    """Return the status that an error object claims; that of an error of the server if it claims none."""
    code = error.get("code") if isinstance(error, dict) else None
    return code if isinstance(code, int) and 300 <= code < 600 else 500


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address."""
    parts = urlsplit(url)
    if parts.hostname is None or proxy_bypass(parts.hostname):
        return None
    return getproxies().get(parts.scheme)
