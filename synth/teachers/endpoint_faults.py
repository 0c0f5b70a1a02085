"""What is wrong with an answer of an endpoint, and whether asking again can help."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

from synth.teachers.endpoint_words import SHOWN, Place, Scrub, phrase

_QUOTA = re.compile(r"insufficient[ _](quota|credits|balance|funds)|billing_", re.I)
_UNKNOWN_MODEL = re.compile(
    r"model_not_found|invalid_model|deploymentnotfound"
    r"|model\b.{0,120}?\b(does not exist|not found|not a valid|is unknown|unknown model)|not a valid model",
    re.I | re.S,
)
_FLAGGED = re.compile(r"moderation|flagged|content[ _](filter|policy|management)|safety", re.I)


class Kind(Enum):
    """What a fault means for the one who asks."""

    AGAIN = "again"
    """It may go better the next time."""
    AWAY = "away"
    """As AGAIN, and nobody is there to answer: the prompt cannot be the cause."""
    SLOW = "slow"
    """As AGAIN, and the endpoint has too much to do."""
    THROTTLED = "throttled"
    """The endpoint takes no more just now."""
    ITEM = "item"
    """This prompt is refused, others are not."""
    ALL = "all"
    """Every call will be refused."""


class Fault(Exception):
    """A request that got no usable reply; the message is fit to be shown, and holds no key."""

    def __init__(
        self, kind: Kind, said: str, retry_after: float | None = None, status: int = 0, param: str = ""
    ) -> None:
        super().__init__(said)
        self.kind = kind
        self.said = said
        self.retry_after = retry_after
        self.status = status
        self.param = param
        """The request's parameter that the endpoint blames."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def judge(answer: Answer, place: Place, path: str, scrub: Scrub) -> Fault:
    """Return the fault of an answer whose status is not 200."""
    status, (words, code, param) = answer.status, _error(answer.body)
    said = scrub(words) or phrase(status)
    if status in (401, 407):
        # What it says of a refused key may repeat the key.
        return Fault(Kind.ALL, place.refused_key(status), status=status)
    if status == 402 or (status == 429 and _QUOTA.search(f"{code} {words}")):
        return Fault(Kind.ALL, place.unpaid(said), status=status)
    if status in (400, 403, 404) and _UNKNOWN_MODEL.search(f"{code} {words}"):
        return Fault(Kind.ALL, place.unknown_model(said), status=status)
    if status == 403:
        flagged = _FLAGGED.search(f"{code} {words}")
        return Fault(Kind.ITEM, f"403: {said}") if flagged else Fault(Kind.ALL, place.refused_key(status))
    if 300 <= status < 400:
        target = scrub(answer.headers.get("Location", "elsewhere").partition("?")[0])
        return Fault(Kind.ALL, place.moved(status, target), status=status)
    if status in (404, 405, 410):
        return Fault(Kind.ALL, place.wrong_path(status, path, said), status=status)
    return Fault(_kind(status), f"{status}: {said}", retry_after(answer.headers), status, param)


def _kind(status: int) -> Kind:
    if status in (429, 503, 529):
        return Kind.THROTTLED
    if status in (408, 409, 425):
        return Kind.AGAIN
    if 400 <= status < 500:
        return Kind.ITEM
    return Kind.AWAY if status == 502 else Kind.AGAIN


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that an endpoint asks to wait; None when it does not say."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    given = headers.get("Retry-After", "").strip()
    if (seconds := _number(given)) is not None:
        return seconds
    moment = _date(given)
    if moment is None:
        return None
    # Against the clock of the one who says it.
    now = _date(headers.get("Date", "")) or datetime.now(UTC)
    return max(0.0, (moment - now).total_seconds())


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if math.isfinite(number) else None


def _date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def parsed(body: bytes) -> Any:
    """Return what a body holds as JSON; ValueError when that is nothing."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_page(body: bytes) -> bool:
    """Say whether a body is a web page."""
    return body.lstrip()[:1] == b"<"


def _error(body: bytes) -> tuple[str, str, str]:
    """Return the message, the code and the blamed parameter that an error names, as far as it does."""
    if is_page(body):
        return "a web page", "", ""
    try:
        data = parsed(body)
    except ValueError:
        return body[:SHOWN].decode("utf-8", "replace"), "", ""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        return str(error)[:SHOWN], "", ""
    words = error.get("message") or error.get("detail") or error
    code = " ".join(str(error[name]) for name in ("code", "type") if error.get(name))
    return str(words)[: 4 * SHOWN], code, str(error.get("param") or "")
