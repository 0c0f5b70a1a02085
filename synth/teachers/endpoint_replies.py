"""What an endpoint's JSON says: the text, why it ended, and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from synth.teachers.endpoint_faults import Fault, Kind

CUT_OFF = {"length", "max_tokens", "max_output_tokens", "model_length"}
"""Why a reply ended when the length limit ended it, as different endpoints put it."""
FAILED = {"abort", "error"}


@dataclass(frozen=True, slots=True)
class Written:
    """One reply; tokens are None where the endpoint does not count them."""

    text: str
    finish_reason: str
    prompt_tokens: int | None
    reply_tokens: int | None


def read(data: dict[str, Any]) -> Written:
    """Read the answer to a request for one reply. Errors: Fault."""
    choices = data.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Fault(Kind.AGAIN, "it answers without a reply (no choices)")
    reason = str(choices[0].get("finish_reason") or "stop").lower()
    if reason in FAILED:
        raise Fault(Kind.AGAIN, f"its reply failed ({reason})")
    # What a content filter stopped is data: an empty text is rejected like any other.
    text = "" if reason == "content_filter" else whole(_text(choices[0]))
    usage = data.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Written(
        text,
        "length" if reason in CUT_OFF else "stop",
        _count(counts.get("prompt_tokens")),
        _count(counts.get("completion_tokens")),
    )


def _text(choice: dict[str, Any]) -> str:
    if "message" not in choice and isinstance(choice.get("text"), str):
        return str(choice["text"])
    message = choice.get("message")
    if not isinstance(message, dict):
        raise Fault(Kind.AGAIN, "it answers without a reply (no message)")
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    # A refusal is the reply then; filters know it.
    found = content or message.get("refusal") or ""
    return found if isinstance(found, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def whole(text: str) -> str:
    """Return a text without halves of surrogate pairs, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def cut(text: str, stops: Sequence[str]) -> str:
    """Return a text up to the first stop string."""
    ends = [end for stop in stops if stop and (end := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
