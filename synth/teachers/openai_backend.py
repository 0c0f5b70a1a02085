"""A teacher behind any OpenAI-compatible endpoint: hosted APIs, vLLM's own server, llama.cpp, Ollama, TGI."""

import os
import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, model_validator

from cluster.errors import ModelError
from synth.teacher import Engine
from synth.teachers.endpoint_settings import EndpointSettings
from synth.teachers.estimating import NamedTokenizer

_OURS = {
    "best_of": "one reply is asked for at a time",
    "max_completion_tokens": "set method.sampling.max_tokens",
    "max_tokens": "set method.sampling.max_tokens",
    "messages": "the method writes the prompt",
    "model": "set teacher.model",
    "n": "one reply is asked for at a time",
    "prompt": "the method writes the prompt",
    "response_format": "the method says what form a reply has",
    "seed": "all replies to a prompt would be the same",
    "stop": "set method.stop",
    "stream": "replies are read whole",
    "stream_options": "replies are read whole",
    "temperature": "set method.sampling.temperature",
    "top_p": "set method.sampling.top_p",
}
_SECRET = re.compile(
    r"api[-_]?key|authorization|bearer|credential|passw|secret|signature|(?:^|[-_])(?:token|key|auth)$", re.I
)
_LIKE_A_KEY = re.compile(r"^(?:bearer |(?:sk|pk|gsk|hf|xai|nvapi)[-_])", re.I)
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,79}")


class OpenAISettings(EndpointSettings):
    """A model that others serve. The key is read from the environment of the nodes and is in no recipe."""

    backend: Literal["openai"] = "openai"
    model: str = Field(min_length=1)
    """The model's name at the endpoint."""
    base_url: str = "https://api.openai.com/v1"
    """Where the API is: the part before `/chat/completions`."""
    key: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key, on the nodes of the replicas. Where it is not set,
    no key is sent, as local servers have it."""
    api: Literal["auto", "chat", "completions"] = "auto"
    """`auto` sends raw prompts to `/completions` and chats to `/chat/completions`. `chat` sends a raw prompt
    as the one message of a user; `completions` sends a chat as text, by the template of `tokenizer_model`."""
    concurrency: int = Field(64, ge=1)
    """Requests a replica sends at once at most; it begins with a few and finds out what is answered."""
    extra_body: dict[str, Any] = {}
    """More of a request's body, passed through, such as `{top_k: 40}` or `{reasoning_effort: low}`."""

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: Any) -> Any:
        """Refuse what may be a key without showing it, as it would be if a field's own check refused it."""
        if not isinstance(data, dict):
            return data
        if isinstance(key := data.get("key"), str) and not _VARIABLE.fullmatch(key):
            raise ValueError(
                "key: give the name of an environment variable in capitals, such as OPENAI_API_KEY, and not "
                "the key itself; keys stay out of recipes"
            )
        if isinstance(url := data.get("base_url"), str):
            _check_address(url)
        if isinstance(extra := data.get("extra_body"), dict):
            _check_extra(extra)
        return data

    def identity(self) -> dict[str, object]:
        # A plain http address is a machine's, which may be another one each night; an https one is that of a
        # provider, whose model it is. The tokenizer decides where documents are cut.
        url = urlsplit(self.base_url)
        return super().identity() | {
            "provider": f"{url.hostname}{url.path.rstrip('/')}" if url.scheme == "https" else None,
            "api": self.api,
            "extra_body": self.extra_body,
            "tokenizer_model": self.tokenizer_model,
        }

    def address(self) -> str:
        """Return the base URL as it may be shown."""
        return self.base_url.partition("?")[0].rstrip("/")

    async def engine(self) -> Engine:
        from synth.teachers.endpoint_engine import EndpointEngine

        tokenizer = None if self.tokenizer_model is None else NamedTokenizer(self.tokenizer_model)
        return EndpointEngine(self, self._read_key(), tokenizer)

    def _read_key(self) -> str | None:
        key = os.environ.get(self.key, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ModelError(f"environment variable {self.key}: holds what no key can hold; set it anew")
        return key or None


def _check_address(url: str) -> None:
    example = "base_url: give an address such as https://api.openai.com/v1 or http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        named, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(example) from None
    if (
        parts.scheme not in ("http", "https")
        or not named
        or any(c.isspace() or not c.isprintable() for c in url)
    ):
        raise ValueError(example)
    if "@" in parts.netloc:
        raise ValueError("base_url: holds a user or a password; keys stay out of recipes: set teacher.key")
    words = [word for pair in parse_qsl(parts.query, keep_blank_values=True) for word in pair]
    if any(_SECRET.search(word) or _LIKE_A_KEY.search(word) for word in words) or parts.fragment:
        raise ValueError("base_url: what stands behind the path looks like a key; keys stay out of recipes")
    if parts.path.rstrip("/").endswith(("/completions", "/chat", "/responses")):
        raise ValueError("base_url: give the part before /chat/completions, which usually ends in /v1")


def _check_extra(extra: dict[str, Any]) -> None:
    for name, why in _OURS.items():
        if name in extra:
            raise ValueError(f"extra_body.{name}: {why}; remove it")
    for name, value in _leaves(extra):
        if _SECRET.search(name) or (isinstance(value, str) and _LIKE_A_KEY.search(value)):
            raise ValueError("extra_body: one of its values looks like a key; keys stay out of recipes")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all that is in a mapping, each under its own key."""
    yield name, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _leaves(child, str(key))
    elif isinstance(value, list):
        for child in value:
            yield from _leaves(child, name)
