"""A teacher on Amazon Bedrock, asked through the Converse API with boto3."""

import re
from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from cluster.errors import ModelError
from synth.teacher import Engine
from synth.teachers.endpoint_settings import EndpointSettings

_OURS = {
    "maxtokens": "set method.sampling.max_tokens",
    "messages": "the method writes the prompt",
    "prompt": "the method writes the prompt",
    "stop": "set method.stop",
    "stopsequences": "set method.stop",
    "system": "the method writes the prompt",
    "temperature": "set method.sampling.temperature",
    "toolchoice": "the method says what form a reply has",
    "tools": "the method says what form a reply has",
    "topp": "set method.sampling.top_p",
}
_SECRET = re.compile(
    r"(api|access)[-_]?key|authorization|bearer|credential|passw|secret|signature|session[-_]?token", re.I
)
_ARN = re.compile(r"arn:aws[\w-]*:[\w-]+:(?P<region>[\w-]+):")


class BedrockSettings(EndpointSettings):
    """A model on Bedrock. Credentials are found as boto3 finds them on the replicas' nodes: environment,
    profile or role. None are in recipes."""

    backend: Literal["bedrock"] = "bedrock"
    model: str = Field(max_length=2048, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*$")
    """Model id, inference profile id, or ARN."""
    region: str | None = Field(None, pattern=r"^[a-z0-9-]+$")
    """AWS region; by default that of the model's ARN, or the one that boto3 finds on the machine."""
    endpoint_url: str | None = None
    """Address of bedrock-runtime where it is not the region's own, such as that of a VPC endpoint."""
    concurrency: int = Field(16, ge=1)
    """Requests a replica sends at once at most. It begins with a few and finds out what the account takes."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """The account's quota of tokens, for all replicas together. A request counts with what requests usually
    use until it is known what it did."""
    extra: dict[str, Any] = {}
    """additionalModelRequestFields: what only this model knows, such as `{top_k: 40}`."""

    @model_validator(mode="before")
    @classmethod
    def _no_secrets(cls, data: Any) -> Any:
        """Refuse what may be a key without showing it, as it would be if a field's own check refused it."""
        if not isinstance(data, dict):
            return data
        if isinstance(url := data.get("endpoint_url"), str):
            _check_address(url)
        if isinstance(extra := data.get("extra"), dict):
            _check_extra(extra)
        return data

    def identity(self) -> dict[str, object]:
        # A model is the same in every region; the tokenizer decides where documents are cut.
        return super().identity() | {"extra": self.extra, "tokenizer_model": self.tokenizer_model}

    def check(self) -> str:
        self.resolved_region()
        return super().check()

    def resolved_region(self) -> str:
        """Return the region that requests go to; ModelError when nothing says which."""
        import boto3
        from botocore.exceptions import BotoCoreError

        arn = _ARN.match(self.model)
        if named := self.region or (arn and arn["region"]):
            return named
        try:
            found = boto3.session.Session().region_name
        except BotoCoreError as error:
            raise ModelError(f"teacher.region: the AWS configuration cannot be read ({error})") from None
        if not found:
            raise ModelError(
                "teacher.region: neither it nor AWS_REGION says which region; set teacher.region"
            )
        return str(found)

    async def engine(self) -> Engine:
        import asyncio

        from synth.teachers.bedrock_engine import BedrockEngine

        return await asyncio.to_thread(BedrockEngine, self)


def _check_address(url: str) -> None:
    example = (
        "endpoint_url: give an address such as https://vpce-1234.bedrock-runtime.us-east-1.vpce.amazonaws.com"
    )
    try:
        parts = urlsplit(url)
        named, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError(example) from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("endpoint_url: give scheme, host and port alone; secrets stay out of recipes")
    if parts.scheme not in ("http", "https") or not named or not url.isprintable() or " " in url:
        raise ValueError(example)


def _check_extra(extra: dict[str, Any]) -> None:
    for name in extra:
        if why := _OURS.get(str(name).replace("_", "").lower()):
            raise ValueError(f"extra.{name}: {why}; remove it")
    if any(_SECRET.search(name) for name in _names(extra)):
        raise ValueError("extra: one of its keys names a secret; secrets stay out of recipes")


def _names(value: Any) -> Iterator[str]:
    """Yield the keys of all mappings within a value."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield str(name)
            yield from _names(child)
    elif isinstance(value, list):
        for child in value:
            yield from _names(child)
