"""An engine whose model is on Bedrock: paced requests in threads, each repeated until it is answered."""

import asyncio
import logging
import math
from itertools import count
from typing import TYPE_CHECKING

from synth.item_clock import standing_still
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Capacity
from synth.teachers.bedrock_dialect import Dialect, Request
from synth.teachers.bedrock_replies import read
from synth.teachers.bedrock_wire import Wire
from synth.teachers.endpoint_faults import Fault, Kind
from synth.teachers.endpoint_pace import Pace
from synth.teachers.estimating import Estimate, NamedTokenizer, most_tokens
from synth.teachers.patience import Bounds, Patience, Tries
from synth.teachers.request_rate import RequestRate

if TYPE_CHECKING:
    from synth.teachers.bedrock_backend import BedrockSettings

SPARE = 1.5
"""Items aboard for each request at once, so that a slot that falls free is taken at once."""
MARGIN = 1.25
"""By how much a prompt may be longer for the model than for the tokenizer that was named."""
LEARNING = 0.1
"""Weight of the last call in that average."""
TOOL_TOKENS = 600
"""What a model may be told about tools, beside their schema, when a reply is structured."""

log = logging.getLogger(__name__)


class BedrockEngine:
    """Paces requests, asks again where that can help, and says when nothing can."""

    def __init__(self, settings: "BedrockSettings") -> None:
        self.revision = settings.check()
        self.pace = Pace(settings.concurrency)
        self._settings = settings
        self._wire = Wire(settings)
        named = settings.tokenizer_model
        self._named = NamedTokenizer(named) if named is not None else None
        self._tokenizer = self._named or Estimate()
        self._dialect = Dialect(settings.model, settings.extra)
        bounds = Bounds(settings.attempts, settings.item_timeout, settings.request_timeout(), settings.outage)
        self._patience = Patience(bounds, self._farewell)
        self._requests = _share(settings.requests_per_minute, settings.replicas)
        self._tokens = _share(settings.tokens_per_minute, settings.replicas)
        self._numbers = count()
        self._inside = self._sent = 0
        self._realised = 1.0
        """What calls use of the tokens that they might, on average."""

    def capacity(self) -> Capacity:
        """As many as the account may take at once, and some more items."""
        settings = self._settings
        facts = {
            "region": self._wire.place.region,
            "endpoint": self._wire.place.address,
            "structured": "tool",
            "requests_per_minute": settings.requests_per_minute,
            "tokens_per_minute": settings.tokens_per_minute,
        }
        return Capacity(math.ceil(SPARE * settings.concurrency), settings.concurrency, facts)

    def busy(self) -> tuple[int, int]:
        """Requests under way, and calls that wait for their turn or for another attempt."""
        return self._sent, max(0, self._inside - self._sent)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """A bound: by bytes, or with some margin by the tokenizer that is named."""
        if self._named is None:
            return most_tokens(prompt) + TOOL_TOKENS
        return math.ceil(MARGIN * self._estimate(prompt)) + TOOL_TOKENS

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        """Ask until there is a reply. Converse knows no seed: the service draws by itself.

        NoReply when this call alone fails, TeacherRefuses when all will.
        """
        tries = Tries(next(self._numbers))
        self._inside += 1
        try:
            while True:
                self._patience.hope()
                try:
                    return await self._ask(prompt, sampling, tries)
                except Fault as fault:
                    wait = self._patience.take(fault, tries, self._inside)
                with standing_still():
                    await asyncio.sleep(wait)
        finally:
            self._inside -= 1

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _ask(self, prompt: Prompt, sampling: Sampling, tries: Tries) -> Reply:
        """Ask when it is this call's turn, in plainer words where these are refused. Errors: Fault."""
        async with self.pace.slot():
            while True:
                request = self._dialect.request(prompt, sampling)
                try:
                    reply = await self._send(request, prompt, sampling, tries)
                except Fault as fault:
                    if fault.kind in (Kind.THROTTLED, Kind.SLOW):
                        self.pace.throttled(fault.retry_after)
                    if fault.kind is Kind.ITEM and self._dialect.learn(request, fault):
                        continue
                    raise
                self._patience.health.succeeded()
                self.pace.succeeded()
                return reply

    async def _send(self, request: Request, prompt: Prompt, sampling: Sampling, tries: Tries) -> Reply:
        """Send one request when the quotas let it through. Errors: Fault."""
        most = self._estimate(prompt) + sampling.max_tokens
        tokens = most * self._realised
        if self._requests is not None or self._tokens is not None:
            with standing_still():
                await self._let_through(tokens)
        clock = asyncio.get_running_loop().time
        began, used = clock(), tokens
        self._sent += 1
        try:
            reply = read(await self._wire.converse(request.body), sampling)
            used = float(reply.prompt_tokens + reply.reply_tokens)
            self._realised += LEARNING * (used / most - self._realised)
            return reply
        except Fault as fault:
            # A request that was not let in has used nothing.
            used = 0.0 if fault.kind is Kind.THROTTLED else used
            raise
        finally:
            self._sent -= 1
            tries.seconds += clock() - began
            if self._tokens is not None:
                self._tokens.settle(tokens, used)

    async def _let_through(self, tokens: float) -> None:
        if self._tokens is not None:
            await self._tokens.take(tokens)
        if self._requests is not None:
            await self._requests.take()
        await self.pace.pause()

    def _estimate(self, prompt: Prompt) -> int:
        turns = [prompt] if isinstance(prompt, str) else [turn.content for turn in prompt]
        return sum(self._tokenizer.count(text) for text in turns)

    def _farewell(self, fault: Fault, ever: bool) -> str:
        place = self._wire.place
        if ever:
            return (
                f"{place} has given no reply to anything for too long; the last: {fault.said}. The same "
                "command goes on from here when it is back"
            )
        if fault.kind is Kind.THROTTLED:
            return (
                f"{place} let no call through at all; the last: {fault.said}. See in AWS Service Quotas that "
                "the account has a quota for teacher.model"
            )
        return (
            f"{place} gave no reply at all; the last: {fault.said}. See that the replicas' nodes reach it, "
            f"and that {place.setting()} is right"
        )


def _share(per_minute: float | None, replicas: int) -> RequestRate | None:
    return RequestRate(per_minute / replicas) if per_minute else None
