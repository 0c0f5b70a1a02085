"""Rendering prompts and reading replies, for methods that write free text under headers."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from jinja2 import StrictUndefined, Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from cluster.errors import SettingsError
from synth.records import Example, Message, Prompt, Rejection, Reply

PREAMBLE = re.compile(
    r"\A\s*(?:sure|certainly|of course|okay|here)\b[^\n]{0,200}:\s*(?:\n|\Z)", re.IGNORECASE
)
"""What chat models say before the text, on a line of its own; a stop string may have cut the rest off."""


def render(template: str, **values: Any) -> str:
    """Fill a Jinja template in the sandbox; SettingsError when it names what is not there."""
    try:
        compiled, names = _compile(template)
        # As Template.render does, but for what it spends on copying the environment's names each time.
        context = compiled.new_context({**names, **values}, shared=True)
        return "".join(compiled.root_render_func(context))
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise SettingsError(f"prompt template {template[:60]!r}: {error}") from error


@lru_cache(maxsize=64)
def _compile(template: str) -> tuple[Template, dict[str, Any]]:
    """Return a template, and the names that the environment gives every template."""
    # Prompts are plain text for a language model: escaping would put HTML entities into them.
    environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.filters["article"] = with_article
    compiled = environment.from_string(template)
    return compiled, dict(compiled.globals)


def with_article(noun: str) -> str:
    """Put `a` or `an` before a noun."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def chat(shots: Sequence[tuple[str, str]], request: str) -> tuple[Message, ...]:
    """Return a chat prompt: (request, answer) pairs as earlier turns, then the request to answer."""
    turns = [
        turn for asked, answer in shots for turn in (Message("user", asked), Message("assistant", answer))
    ]
    return (*turns, Message("user", request))


def as_text(prompt: Prompt) -> str:
    """Return a prompt as plain text, for hashing, counting and showing."""
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{m.role}: {m.content}" for m in prompt)


def stops(*headers: str) -> tuple[str, ...]:
    """Return the stop strings of raw continuations: a header at the start of a line."""
    return tuple(dict.fromkeys(f"\n{header}:" for header in headers))


def read_reply(
    reply: Reply, label: str, headers: Sequence[str], pieces: Literal["first", "all"] = "first"
) -> list[Example | Rejection]:
    """Turn a reply into an example, or rejections with reasons; it never raises.

    Opening words of a chat model (`Sure, here is your headline:`) on a line of their own are left out. The
    reply is split where a header starts a line. The first piece is the example; with `all`, every piece
    is (SynthesizRR's published code), otherwise the rest are rejections `run_on`. Reasons: `cut_off` (the
    length limit ended it), `empty`, `run_on`. Whether it is a refusal is for `synth.filters` to say.
    """
    found = [_unquote(piece) for piece in _split(reply.text, headers)]
    if reply.finish_reason == "length":
        # The limit cut the last piece; what stood complete before it is judged like any other.
        last = found.pop() if found else ""
        return [*_judge(found, label, pieces), Rejection("cut_off", last, label)]
    return _judge(found, label, pieces)


def _judge(found: Sequence[str], label: str, pieces: str) -> list[Example | Rejection]:
    outcomes: list[Example | Rejection] = []
    for piece in found:
        if not piece:
            if not outcomes:
                outcomes.append(Rejection("empty", piece, label))
        elif outcomes and pieces == "first":
            outcomes.append(Rejection("run_on", piece, label))
        else:
            outcomes.append(Example({"text": piece}, label))
    return outcomes


def _split(text: str, headers: Sequence[str]) -> list[str]:
    starts = "|".join(re.escape(header) for header in dict.fromkeys(headers))
    # The cue, which is the last header, may be repeated at the very start; that opens the first piece.
    cue = re.escape(headers[-1]) if headers else "(?!)"
    body = re.sub(rf"^\s*{cue}:", "", PREAMBLE.sub("", text))
    return re.split(rf"(?:^|\n)\s*(?:{starts}):", body) if headers else [body]


def _unquote(text: str) -> str:
    """Strip white space and one pair of wrapping quotation marks."""
    text = text.strip()
    for opening, closing in (('"', '"'), ("“", "”"), ("'", "'")):
        if len(text) > 1 and text.startswith(opening) and text.endswith(closing):
            inner = text[1:-1]
            if opening not in inner and closing not in inner:
                return inner.strip()
    return text


def task_values(settings: Any, verbalizer: str) -> Mapping[str, Any]:
    """Return what every prompt template may name of a task."""
    return {
        "text_type": settings.text_type,
        "document_type": settings.document_type,
        "length": settings.length,
        "style": settings.style,
        "instruction": settings.instruction,
        "verbalizer": verbalizer,
    }
