"""What Converse answers: the text, or the tool's input as text; why it ended; what it cost."""

import json
from typing import Any

from synth.records import Reply, Sampling, Structure
from synth.teachers.bedrock_dialect import TOOL, form
from synth.teachers.endpoint_dialect import chosen
from synth.teachers.endpoint_faults import Fault, Kind
from synth.teachers.endpoint_replies import cut, whole

_CUT_OFF = {"max_tokens", "model_context_window_exceeded"}
_FILTERED = {"guardrail_intervened", "content_filtered"}
_PROMPT_COUNTS = ("inputTokens", "cacheReadInputTokens", "cacheWriteInputTokens")


def read(answer: Any, sampling: Sampling) -> Reply:
    """Read an answer, whatever it holds. Errors: Fault when no reply is in it, or no count of tokens."""
    content, reason = _content(answer), str(answer.get("stopReason") or "end_turn")
    usage = answer.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    reply_tokens = _count(counts.get("outputTokens"))
    if reply_tokens is None or _count(counts.get("inputTokens")) is None:
        raise Fault(Kind.AGAIN, "it answers without a count of tokens (usage)")
    prompt_tokens = sum(_count(counts.get(name)) or 0 for name in _PROMPT_COUNTS)
    finish = "length" if reason in _CUT_OFF else "stop"
    if reason in _FILTERED:
        # What a filter stopped is data: an empty text is rejected like any other.
        return Reply("", finish, prompt_tokens, reply_tokens)
    if sampling.structure is not None and (text := _tool_input(content, sampling.structure)) is not None:
        return Reply(whole(text), finish, prompt_tokens, reply_tokens)
    written = whole("".join(block["text"] for block in content if isinstance(block.get("text"), str)))
    text = cut(chosen(written, sampling.structure), sampling.stop)
    ended = sampling.structure is None and len(text) < len(written)
    return Reply(text, "stop" if ended else finish, prompt_tokens, reply_tokens)


def _content(answer: Any) -> list[dict[str, Any]]:
    found = answer
    for name in ("output", "message", "content"):
        found = found.get(name) if isinstance(found, dict) else None
    if not isinstance(found, list):
        raise Fault(Kind.AGAIN, "it answers without a reply")
    return [block for block in found if isinstance(block, dict)]


def _tool_input(content: list[dict[str, Any]], structure: Structure) -> str | None:
    """Return the input of the tool as text: a choice as it is, anything else as canonical JSON."""
    uses = [block["toolUse"] for block in content if isinstance(block.get("toolUse"), dict)]
    if (value := next((use.get("input") for use in uses if use.get("name") == TOOL), None)) is None:
        return None
    _, key = form(structure)
    if key is not None and isinstance(value, dict) and key in value:
        value = value[key]
    if structure.choices and isinstance(value, str):
        return value
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
