"""The calls of one replica's engine: within the grant, counted, and ended with the engine when that dies."""

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import Any

from cluster.gauge import Gauge
from cluster.purse import Currency, Purse, Rates
from cluster.work import Vitals
from synth.item_clock import ItemClock
from synth.records import Prompt, Reply, Sampling
from synth.teacher import Engine, EngineDied

log = logging.getLogger(__name__)


class Caller:
    """Lets calls through to an engine as the grant allows; `news` is set when a call is held back.

    `rates` are the prices of this engine's calls, where they are not those of the purse.
    """

    def __init__(self, engine: Engine, purse: Purse, news: asyncio.Event, rates: Rates = None) -> None:
        self.engine = engine
        self.purse = purse
        self.tasks: set[asyncio.Task[Any] | None] = set()
        """Those with a call under way or held back; a method may have left some behind."""
        self._news = news
        self._rates = rates
        self._gauge = Gauge()

    def vitals(self) -> Vitals:
        """Return how the engine fares, and what was spent."""
        running, waiting = self.engine.busy()
        purse = self.purse
        return Vitals(running, waiting, purse.blocked, purse.used, purse.wanted, self._gauge.share())

    async def generate(self, prompt: Prompt, sampling: Sampling, seed: int, clock: ItemClock) -> Reply:
        """Return the engine's reply to a prompt; the process ends when the engine is dead."""
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            if self.purse.currencies:
                return await self._pay(prompt, sampling, seed, clock)
            return await self.engine.generate(prompt, sampling, seed)
        except EngineDied:
            # An actor that lives on with a dead engine would be given the same items for ever.
            log.exception("the engine died; the replica ends")
            os._exit(1)
        finally:
            self.tasks.discard(task)

    async def _pay(self, prompt: Prompt, sampling: Sampling, seed: int, clock: ItemClock) -> Reply:
        tokens, most = self.engine.prompt_tokens(prompt), sampling.max_tokens
        if (price := self.purse.take(tokens, most, self._rates)) is None:
            # The driver is to hear at once that the grant is too small.
            self._news.set()
            with clock.blocked():
                price = await self.purse.reserve(tokens, most, self._rates)
        try:
            with clock.working():
                reply = await self.engine.generate(prompt, sampling, seed)
        except BaseException:
            self.purse.forfeit(price)
            raise
        self.purse.settle(price, reply.prompt_tokens, reply.reply_tokens, self._rates)
        return reply


def idle_vitals(currencies: Sequence[Currency]) -> Vitals:
    """Return the vitals of a replica that has no engine yet."""
    nothing = tuple(0.0 for _ in currencies)
    return Vitals(used=nothing, wanted=nothing)
