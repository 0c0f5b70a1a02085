"""What a replica may spend: never above its grant, in order of arrival, given-up calls paid or free."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.purse import Currency, Purse

TOKENS = Currency("tokens", 1, 1)
MONEY = Currency("money", 0.1, 0.3)


async def settled() -> None:
    """Let every task run that can."""
    for _ in range(4):
        await asyncio.sleep(0)


async def test_a_call_within_the_grant_starts_at_once_and_is_charged_what_it_cost() -> None:
    purse = Purse([TOKENS, MONEY])
    purse.grant((100, 20))
    price = purse.take(40, 20)
    assert price == (60, pytest.approx(10))
    purse.settle(price, 40, 5)
    assert purse.used == (45, pytest.approx(5.5))
    assert (purse.blocked, purse.wanted) == (0, (0, 0))


async def test_a_call_beyond_the_grant_waits_says_what_it_wants_and_starts_when_it_is_granted() -> None:
    purse = Purse([TOKENS])
    waiting = asyncio.create_task(purse.reserve(40, 20))
    await settled()
    assert (purse.blocked, purse.wanted, purse.used) == (1, (60,), (0,))
    purse.grant((59,))
    await settled()
    assert (waiting.done(), purse.wanted) == (False, (1,))
    purse.grant((10,))
    assert purse.wanted == (1,), "a grant never shrinks"
    purse.grant((60,))
    assert await waiting == (60,)
    assert (purse.blocked, purse.wanted) == (0, (0,))


async def test_what_a_call_did_not_use_lets_the_next_one_in() -> None:
    purse = Purse([TOKENS])
    purse.grant((100,))
    first = await purse.reserve(40, 50)
    second = asyncio.create_task(purse.reserve(40, 20))
    await settled()
    assert not second.done()
    purse.settle(first, 40, 0)
    assert await second == (60,)


async def test_a_short_call_does_not_overtake_a_long_one_that_waits() -> None:
    purse = Purse([TOKENS])
    purse.grant((50,))
    long, short = asyncio.create_task(purse.reserve(90, 0)), asyncio.create_task(purse.reserve(1, 0))
    await settled()
    assert (long.done(), short.done(), purse.take(1, 0)) == (False, False, None)
    purse.grant((91,))
    assert await asyncio.gather(long, short) == [(90,), (1,)]


async def test_a_waiting_call_that_is_given_up_costs_nothing_and_makes_room_for_those_behind() -> None:
    purse = Purse([TOKENS])
    purse.grant((50,))
    long, short = asyncio.create_task(purse.reserve(90, 0)), asyncio.create_task(purse.reserve(1, 0))
    await settled()
    long.cancel()
    assert await asyncio.wait_for(short, 1) == (1,)
    assert (purse.blocked, purse.used) == (0, (0,))


async def test_a_call_given_up_as_its_turn_comes_gives_back_what_was_set_aside() -> None:
    purse = Purse([TOKENS])
    waiting = asyncio.create_task(purse.reserve(60, 0))
    await settled()
    purse.grant((60,))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    assert purse.take(60, 0) == (60,)


async def test_what_is_forfeited_counts_as_spent() -> None:
    purse = Purse([TOKENS])
    purse.grant((100,))
    purse.forfeit(await purse.reserve(40, 20))
    assert purse.used == (60,)
    assert purse.take(41, 0) is None


async def test_fractions_leave_nothing_set_aside_once_no_call_is_under_way() -> None:
    purse = Purse([Currency("money", 0.1, 0.7)])
    purse.grant((1e9,))
    for _ in range(1000):
        first, second = await purse.reserve(3, 7), await purse.reserve(1, 9)
        purse.settle(first, 0, 0)
        purse.settle(second, 0, 0)
    purse.grant((1e9 + 1,))
    assert purse.used == (0,)
    assert purse.take(0, int((1e9 + 1) / 0.7)) is not None


def test_without_currencies_all_is_free() -> None:
    purse = Purse([])
    assert purse.take(10**9, 10**9) == ()


@given(seed=st.integers(0, 10**6), money=st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_comes_no_more_is_spent_than_granted_and_every_call_has_its_turn(
    seed: int, money: bool
) -> None:
    asyncio.run(_night(random.Random(seed), [TOKENS, MONEY] if money else [TOKENS]))


async def _night(rng: random.Random, currencies: list[Currency]) -> None:
    """Random calls, grants, ends and cancellations; in the end enough is granted for all."""
    purse, granted, spent = Purse(currencies), [0.0] * len(currencies), [0.0] * len(currencies)
    ends: dict[int, asyncio.Event] = {}

    async def call(number: int) -> None:
        prompt, most = rng.randint(1, 50), rng.randint(1, 50)
        price = await purse.reserve(prompt, most)
        ends[number] = asyncio.Event()
        try:
            await ends[number].wait()
        except asyncio.CancelledError:
            purse.forfeit(price)
            count(prompt, most)
            raise
        reply = rng.randint(0, most)
        purse.settle(price, prompt, reply)
        count(prompt, reply)

    def count(prompt: int, reply: int) -> None:
        for n, currency in enumerate(currencies):
            spent[n] += currency.of(prompt, reply)

    tasks = []
    for number in range(40):
        tasks.append(asyncio.create_task(call(number)))
        await settled()
        if rng.random() < 0.6:
            granted = [each + rng.uniform(0, 60) for each in granted]
            purse.grant(granted)
        if rng.random() < 0.2:
            rng.choice(tasks).cancel()
        if ends and rng.random() < 0.5:
            rng.choice(list(ends.values())).set()
        await settled()
        assert purse.used == pytest.approx(tuple(spent))
        assert all(used <= most + 1e-9 for used, most in zip(purse.used, granted, strict=True))
    purse.grant([1e6] * len(currencies))
    await settled()
    assert (purse.blocked, purse.wanted) == (0, (0.0,) * len(currencies))
    for end in ends.values():
        end.set()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert purse.used == pytest.approx(tuple(spent))


def test_what_is_given_back_cannot_be_spent_any_more() -> None:
    purse = Purse((Currency("tokens", 1, 1),))
    purse.grant((100.0,))
    price = purse.take(30, 10)
    assert price is not None
    purse.settle(price, 30, 5)
    purse.give_back()
    assert (purse.take(1, 0), purse.used, purse.wanted) == (None, (35.0,), (0.0,))
    purse.grant((50.0,))
    assert purse.take(10, 5) is not None
