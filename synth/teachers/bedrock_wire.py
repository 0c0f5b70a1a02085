"""The way to Bedrock: one boto3 client, and as many threads as there may be requests at once."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from cluster.errors import ModelError
from synth.teachers.bedrock_faults import UNREADABLE, Place, judge
from synth.teachers.endpoint_words import Scrub

if TYPE_CHECKING:
    from synth.teachers.bedrock_backend import BedrockSettings

CONNECT_SECONDS = 10.0
_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK",
)  # fmt: skip


class Wire:
    """Sends Converse requests. Credentials are what boto3 finds on this machine."""

    def __init__(self, settings: "BedrockSettings") -> None:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        region = settings.resolved_region()
        config = Config(
            # Whether and when to ask again is decided with an eye to all calls, not to one.
            retries={"mode": "standard", "total_max_attempts": 1},
            connect_timeout=min(CONNECT_SECONDS, settings.request_timeout()),
            read_timeout=settings.request_timeout(),
            max_pool_connections=settings.concurrency,
            tcp_keepalive=True,
        )
        try:
            # A session of its own: boto3's default one keeps the environment it first saw.
            self._session = boto3.session.Session()
            self._client: Any = self._session.client(
                "bedrock-runtime", region_name=region, endpoint_url=settings.endpoint_url, config=config
            )
        except (BotoCoreError, ValueError) as error:
            where = "teacher.region, teacher.endpoint_url or the AWS configuration"
            raise ModelError(f"{where}: boto3 cannot use it ({error}); mend it") from None
        self.place = Place(settings.model, region, settings.endpoint_url, bool(settings.extra))
        self._threads = ThreadPoolExecutor(settings.concurrency, "bedrock")

    async def converse(self, request: dict[str, Any]) -> Any:
        """Return the answer to a request. Errors: Fault."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._converse, request)

    async def close(self) -> None:
        """Close the connections; what is under way is not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    def _converse(self, request: dict[str, Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            return self._client.converse(**request)
        except (BotoCoreError, ClientError, ResponseParserError, *UNREADABLE) as error:
            # Not `from error`: what boto3 says of it may hold what was signed.
            raise judge(error, self.place, self._scrub) from None

    def _scrub(self, words: str) -> str:
        """Return the first paragraph of what the service says, without anything secret."""
        from botocore.exceptions import BotoCoreError

        found = {os.environ.get(name) for name in _VARIABLES}
        try:
            if (credentials := self._session.get_credentials()) is not None:
                frozen = credentials.get_frozen_credentials()
                found |= {frozen.access_key, frozen.secret_key, frozen.token}
        except BotoCoreError:
            # Without knowing them there is no telling what may be shown.
            return ""
        words = words.strip().partition("\n\n")[0]
        for secret in found:
            words = Scrub(secret)(words)
        return words
