"""An engine whose model is behind an endpoint: many requests at once, each repeated until it is answered."""

import asyncio
import logging
import math
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from synth.item_clock import standing_still
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Capacity
from synth.teachers.endpoint_dialect import Dialect, Request, chosen
from synth.teachers.endpoint_faults import Fault, Kind
from synth.teachers.endpoint_http import Wire
from synth.teachers.endpoint_pace import Pace
from synth.teachers.endpoint_replies import Written, cut, read
from synth.teachers.endpoint_words import Place
from synth.teachers.estimating import most_tokens
from synth.teachers.patience import Bounds, Patience, Tries
from synth.teachers.request_rate import RequestRate
from synth.tokens import TeacherTokenizer

if TYPE_CHECKING:
    from synth.teachers.openai_backend import OpenAISettings

SPARE = 1.5
"""Items aboard for each request at once, so that a slot that falls free is taken at once."""
MARGIN = 16
"""Tokens by which a prompt may be longer for the endpoint than for the tokenizer that was named."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Call:
    """One call on its way."""

    prompt: Prompt
    sampling: Sampling
    tries: Tries
    plain: bool = False
    """Whether it is asked without the structure that its reply is to have."""
    request: Request | None = None
    """What was sent last."""


class EndpointEngine:
    """Paces requests, asks again where that can help, and says when nothing can."""

    def __init__(
        self, settings: "OpenAISettings", key: str | None, tokenizer: TeacherTokenizer | None
    ) -> None:
        self.revision = settings.check()
        self.pace = Pace(settings.concurrency)
        self._settings = settings
        self._tokenizer = tokenizer
        place = Place(settings.address(), settings.model, settings.key, key is not None)
        self._address = place.address
        timeout = settings.request_timeout()
        self._wire = Wire(settings.base_url, place, key, timeout)
        self._dialect = Dialect(
            settings.model, settings.api, settings.extra_body, tokenizer.as_text if tokenizer else None
        )
        bounds = Bounds(settings.attempts, settings.item_timeout, timeout, settings.outage)
        self._patience = Patience(bounds, self._farewell)
        rate = settings.requests_per_minute
        self._rate = RequestRate(rate / settings.replicas) if rate else None
        self._numbers = count()
        self._inside = 0
        self._counted = False
        """Whether a reply came with its tokens counted."""

    def capacity(self) -> Capacity:
        """As many as the endpoint may be given at once, and some more items."""
        settings = self._settings
        facts = {
            "endpoint": urlsplit(settings.base_url).hostname,
            "api": settings.api,
            "structured": "response_format",
            "requests_per_minute": settings.requests_per_minute,
        }
        return Capacity(math.ceil(SPARE * settings.concurrency), settings.concurrency, facts)

    def busy(self) -> tuple[int, int]:
        """Requests under way, and calls that wait for a slot or for another attempt."""
        return self.pace.running, max(0, self._inside - self.pace.running)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """By the tokenizer that is named; without one, a bound."""
        counted = self._count(prompt)
        return most_tokens(prompt) if counted is None else counted + MARGIN

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int) -> Reply:
        """Ask until there is a reply. The seed is not sent: endpoints draw by themselves.

        NoReply when this call alone fails, TeacherRefuses when all will.
        """
        call = _Call(prompt, sampling, Tries(next(self._numbers)))
        self._inside += 1
        try:
            while True:
                try:
                    return self._reply(call, await self._ask(call))
                except Fault as fault:
                    wait = self._take(fault, call)
                with standing_still():
                    await asyncio.sleep(wait)
        finally:
            self._inside -= 1

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _ask(self, call: _Call) -> Written:
        """Send one request when it is its turn. Errors: Fault; TeacherRefuses when that is known already."""
        async with self.pace.slot():
            self._patience.hope()
            request = call.request = self._dialect.request(call.prompt, call.sampling, call.plain)
            if self._rate is not None:
                with standing_still():
                    await self._rate.take()
                    await self.pace.pause()
            clock = asyncio.get_running_loop().time
            began = clock()
            try:
                written = read(await self._wire.post(request.path, request.body))
                self._check_counts(written)
            except Fault as fault:
                if fault.kind in (Kind.THROTTLED, Kind.SLOW):
                    self.pace.throttled(fault.retry_after)
                raise
            finally:
                call.tries.seconds += clock() - began
            self._patience.health.succeeded()
            self.pace.succeeded()
            return written

    def _take(self, fault: Fault, call: _Call) -> float:
        """Return the seconds after which to ask again; NoReply or TeacherRefuses when not to."""
        if fault.kind is Kind.ITEM and self._plainer(fault, call):
            return 0.0
        if fault.kind is Kind.ALL and fault.status in (404, 405, 410) and self._patience.health.ever:
            # An address and a model that have been good are so again when the endpoint is back.
            fault = Fault(Kind.AWAY, fault.said, fault.retry_after, fault.status)
        return self._patience.take(fault, call.tries, self._inside)

    def _farewell(self, fault: Fault, ever: bool) -> str:
        if ever:
            return (
                f"{self._address} has given no reply to anything for too long; the last: {fault.said}. The "
                "same command goes on from here when it is back"
            )
        return (
            f"{self._address} gave no reply at all; the last: {fault.said}. See that it runs and that "
            "teacher.base_url is its address, which usually ends in /v1"
        )

    def _plainer(self, fault: Fault, call: _Call) -> bool:
        """Say whether a refused call can be asked in plainer words."""
        if call.request is None or fault.status not in (400, 422):
            return False
        if self._dialect.learn(call.request, fault):
            return True
        if not call.request.structured:
            return False
        call.plain = True
        return True

    def _check_counts(self, written: Written) -> None:
        """See to it that tokens are counted, for limits and costs are reckoned by them. Errors: Fault."""
        if written.prompt_tokens is not None and written.reply_tokens is not None:
            self._counted = True
        elif self._tokenizer is None:
            if self._counted:
                raise Fault(Kind.AGAIN, "its reply comes without a count of tokens (usage)")
            raise Fault(
                Kind.ALL,
                f"{self._address} does not count tokens (no usage in its replies); set "
                "teacher.tokenizer_model to a model with the same tokenizer, to count them here",
            )

    def _reply(self, call: _Call, written: Written) -> Reply:
        structure = call.sampling.structure
        if call.plain and structure is not None:
            self._dialect.refused(structure)
        text = cut(chosen(written.text, structure), call.sampling.stop)
        ended = len(text) < len(written.text)
        prompt_tokens, reply_tokens = written.prompt_tokens, written.reply_tokens
        if prompt_tokens is None or reply_tokens is None:
            counted = self._count(call.prompt)
            prompt_tokens = most_tokens(call.prompt) if counted is None else counted
            reply_tokens = self._tokenizer.count(written.text) if self._tokenizer else 0
        return Reply(text, "stop" if ended else written.finish_reason, prompt_tokens, reply_tokens)

    def _count(self, prompt: Prompt) -> int | None:
        """Return the tokens of a prompt by the tokenizer that is named; None where it cannot tell."""
        tokenizer = self._tokenizer
        if tokenizer is None or not (isinstance(prompt, str) or tokenizer.inner.chat_template):
            return None
        return len(tokenizer.ids(prompt))
