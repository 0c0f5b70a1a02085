"""Pacing by itself: how many slots there are, pauses, order, and calls that are given up."""

import asyncio
import time

import pytest

from synth.item_clock import ItemClock
from synth.teachers.endpoint_health import CROWD, Health
from synth.teachers.endpoint_pace import Pace


class House:
    """A server that takes so many at once and turns the others away."""

    def __init__(self, pace: Pace, seats: int) -> None:
        self.pace, self.seats = pace, seats
        self.inside = self.most = self.turned_away = 0

    async def ask(self) -> None:
        while True:
            async with self.pace.slot():
                self.inside += 1
                try:
                    await asyncio.sleep(0)
                    if self.inside > self.seats:
                        self.turned_away += 1
                        self.pace.throttled()
                        continue
                    self.most = max(self.most, self.inside)
                    await asyncio.sleep(0.001)
                    self.pace.succeeded()
                    return
                finally:
                    self.inside -= 1


async def test_slots_rise_to_the_ceiling_and_never_over_it() -> None:
    pace = Pace(24, start=4)
    house = House(pace, 10**9)
    await asyncio.gather(*(house.ask() for _ in range(400)))
    assert (pace.limit, house.most, pace.running, pace.waiting) == (24, 24, 0, 0)


@pytest.mark.parametrize("seats", [1, 5, 20])
async def test_slots_settle_where_the_house_is_full(seats: int) -> None:
    pace = Pace(64)
    house = House(pace, seats)
    await asyncio.gather(*(house.ask() for _ in range(600)))
    assert seats // 2 <= house.most <= seats
    assert max(1, seats // 2 - 1) <= pace.limit <= seats + 1
    # Each time one more was tried, and half a house went by until the next.
    assert house.turned_away < 600 / seats + 64


async def test_a_window_that_is_turned_away_halves_the_slots_once() -> None:
    pace = Pace(64, start=16)
    async with asyncio.TaskGroup() as group:

        async def one() -> None:
            async with pace.slot():
                await asyncio.sleep(0.01)
                pace.throttled()

        for _ in range(16):
            group.create_task(one())
    assert pace.limit == 8
    async with pace.slot():
        pace.throttled()
    assert pace.limit == 4
    for _ in range(9):
        async with pace.slot():
            pace.throttled()
    assert pace.limit == 1


async def test_successes_in_a_house_that_is_not_full_prove_nothing() -> None:
    pace = Pace(64, start=4)
    for _ in range(50):
        async with pace.slot():
            pace.succeeded()
    assert pace.limit == 4


async def test_all_wait_for_the_end_of_a_pause_and_the_longest_counts() -> None:
    pace = Pace(8)
    began = time.monotonic()
    async with pace.slot():
        pace.throttled(0.2)
        pace.throttled(0.05)

    async def ask() -> float:
        async with pace.slot():
            return time.monotonic() - began

    assert min(await asyncio.gather(*(ask() for _ in range(6)))) >= 0.2
    assert time.monotonic() - began < 10


async def test_who_holds_a_slot_can_wait_for_the_end_of_a_pause_too() -> None:
    pace = Pace(8)
    began = time.monotonic()
    async with pace.slot():
        pace.throttled(0.1)
        await pace.pause()
    assert 0.1 <= time.monotonic() - began < 10


async def test_slots_are_given_in_order_of_arrival_past_those_who_gave_up() -> None:
    pace = Pace(1)
    order: list[int] = []

    async def ask(number: int) -> None:
        async with pace.slot():
            order.append(number)

    async with pace.slot():
        asked = [asyncio.create_task(ask(number)) for number in range(6)]
        await asyncio.sleep(0)
        asked[0].cancel()
        asked[3].cancel()
        await asyncio.sleep(0)
        assert pace.waiting == 4
    await asyncio.gather(*asked, return_exceptions=True)
    assert (order, pace.running, pace.waiting) == ([1, 2, 4, 5], 0, 0)


async def test_a_turn_that_comes_as_it_is_given_up_goes_to_the_next() -> None:
    pace = Pace(1)

    async def ask() -> str:
        async with pace.slot():
            return "in"

    async with pace.slot():
        first, second = asyncio.create_task(ask()), asyncio.create_task(ask())
        await asyncio.sleep(0)
    first.cancel()
    assert await second == "in"
    assert (first.cancelled(), pace.running) == (True, 0)


async def test_the_clock_of_an_item_stands_still_while_it_waits_for_a_slot() -> None:
    pace = Pace(1)
    async with pace.slot():
        pace.throttled(0.3)
    async with ItemClock(0.1) as clock, pace.slot():
        pass
    assert not clock.expired
    with pytest.raises(TimeoutError):
        async with ItemClock(0.05), pace.slot():
            await asyncio.sleep(1)


async def test_a_paid_call_that_waits_stops_the_clock_unless_another_is_worked_on() -> None:
    pace = Pace(1)
    async with pace.slot():
        pace.throttled(0.3)
    async with ItemClock(0.1) as clock:
        with clock.working():
            async with pace.slot():
                pace.throttled(0.3)
    with pytest.raises(TimeoutError):
        async with ItemClock(0.1) as clock:
            with clock.working(), clock.working():
                async with pace.slot():
                    pass
    assert clock.expired


def test_an_endpoint_that_never_worked_is_ill_when_all_calls_are_in_trouble() -> None:
    now = [0.0]
    health = Health(600, lambda: now[0])
    health.failed(1)
    assert [health.ill(False, 1), health.ill(False, 8), health.ill(True, 8)] == [True, False, True]
    assert [health.lost(False), health.lost(True)] == [True, False]
    for call in range(CROWD):
        health.failed(call)
    assert health.ill(False, 99)
    health.succeeded()
    assert not health.ill(False, 1)
    # One prompt that always fails says nothing of an endpoint that worked.
    health.failed(1)
    assert not health.ill(False, 1)
    assert not health.lost(False)
    now[0] = 601
    assert health.lost(False) and health.lost(True)
