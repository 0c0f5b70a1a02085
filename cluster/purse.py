"""What one replica may spend: no call starts that could go beyond it.

Amounts are tuples, one number per currency of the budget (tokens, money); an empty tuple means no limit.
`rates` are the same currencies with other prices, for the calls of a second engine.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Currency:
    """A linear price: what one prompt token and one reply token cost in it."""

    name: str
    prompt: float
    reply: float

    def of(self, prompt_tokens: int, reply_tokens: int) -> float:
        """Return the price of a call."""
        return self.prompt * prompt_tokens + self.reply * reply_tokens


Rates = Sequence[Currency] | None


class Purse:
    """Holds what a replica was granted in all, has used, and has set aside for calls under way."""

    def __init__(self, currencies: Sequence[Currency]) -> None:
        self.currencies = tuple(currencies)
        self.used = self._nothing = tuple(0.0 for _ in currencies)
        self._granted = self._reserved = self._nothing
        self._calls = 0
        """Calls that something is set aside for."""
        self._waiting: dict[int, tuple[tuple[float, ...], asyncio.Future[None]]] = {}
        self._next = 0

    @property
    def blocked(self) -> int:
        """Calls that wait for a grant."""
        return len(self._waiting)

    @property
    def wanted(self) -> tuple[float, ...]:
        """What the waiting calls need, and what is under way, beyond the grant."""
        waiting = [price for price, _ in self._waiting.values()]
        return tuple(
            max(0.0, used + held + sum(price[n] for price in waiting) - granted)
            for n, (used, held, granted) in enumerate(
                zip(self.used, self._reserved, self._granted, strict=True)
            )
        )

    def grant(self, amounts: Sequence[float]) -> None:
        """Take in what may be spent in all, since the replica was loaded; it never shrinks."""
        self._granted = tuple(max(a, b) for a, b in zip(self._granted, amounts, strict=True))
        self._wake()

    def give_back(self) -> None:
        """Let go of what was granted and is not used; no call may be under way."""
        self._granted = self.used

    def take(self, prompt_tokens: int, reply_tokens: int, rates: Rates = None) -> tuple[float, ...] | None:
        """Set the price of a call of at most so many tokens aside; None when the call has to wait."""
        price = self._price(prompt_tokens, reply_tokens, rates)
        if self._waiting or not self._fits(price):
            return None
        self._set_aside(price)
        return price

    async def reserve(self, prompt_tokens: int, reply_tokens: int, rates: Rates = None) -> tuple[float, ...]:
        """Wait until a call of at most so many tokens fits in, and set its price aside."""
        if (taken := self.take(prompt_tokens, reply_tokens, rates)) is not None:
            return taken
        price = self._price(prompt_tokens, reply_tokens, rates)
        self._next += 1
        number, turn = self._next, asyncio.get_running_loop().create_future()
        self._waiting[number] = price, turn
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # Its turn came in the very moment it was given up.
                self.settle(price, 0, 0)
            raise
        finally:
            # Whoever stood behind a call that was given up may fit in.
            if self._waiting.pop(number, None) is not None:
                self._wake()
        return price

    def settle(
        self, price: tuple[float, ...], prompt_tokens: int, reply_tokens: int, rates: Rates = None
    ) -> None:
        """Replace what was set aside for a call by what it cost."""
        self._spend(price, self._price(prompt_tokens, reply_tokens, rates))

    def forfeit(self, price: tuple[float, ...]) -> None:
        """Count all that was set aside for a call as spent: it may have been, and nobody can tell."""
        self._spend(price, price)

    def _price(self, prompt_tokens: int, reply_tokens: int, rates: Rates) -> tuple[float, ...]:
        return tuple([each.of(prompt_tokens, reply_tokens) for each in rates or self.currencies])

    def _spend(self, price: tuple[float, ...], cost: tuple[float, ...]) -> None:
        self._calls -= 1
        # Sums of fractions drift: with no call under way nothing is set aside, and no dust of it either.
        self._reserved = _plus(self._reserved, price, -1) if self._calls else self._nothing
        self.used = _plus(self.used, cost)
        self._wake()

    def _set_aside(self, price: tuple[float, ...]) -> None:
        self._calls += 1
        self._reserved = _plus(self._reserved, price)

    def _wake(self) -> None:
        # In order of arrival: a long prompt must not be overtaken for ever by short ones.
        while self._waiting:
            number, (price, turn) = next(iter(self._waiting.items()))
            if not turn.cancelled():
                if not self._fits(price):
                    return
                self._set_aside(price)
                turn.set_result(None)
            del self._waiting[number]

    def _fits(self, price: tuple[float, ...]) -> bool:
        for used, held, cost, granted in zip(self.used, self._reserved, price, self._granted, strict=True):
            if used + held + cost > granted:
                return False
        return True


def _plus(left: tuple[float, ...], right: tuple[float, ...], sign: int = 1) -> tuple[float, ...]:
    return tuple([a + sign * b for a, b in zip(left, right, strict=True)])
