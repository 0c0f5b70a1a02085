"""So much a minute: never more in any minute, evenly, in order, and nothing lost to the cancelled."""

import asyncio
import bisect
import itertools
import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synth.teachers.request_rate import RequestRate


class FakeTime:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def busiest_minute(times: list[float]) -> int:
    """The most starts in any 60 s, the last moment excluded."""
    return max(bisect.bisect_left(times, start + 60 - 1e-6) - n for n, start in enumerate(times))


async def starts(rate: RequestRate, clock: FakeTime, count: int) -> list[float]:
    times = []
    for _ in range(count):
        await rate.take()
        times.append(clock())
    return times


@given(per_minute=st.floats(1, 3000), quiet=st.floats(0, 500))
@settings(max_examples=60, deadline=None)
def test_no_minute_ever_sees_more_than_allowed(per_minute: float, quiet: float) -> None:
    clock = FakeTime()
    rate = RequestRate(per_minute, clock, clock.sleep)
    count = min(400, int(per_minute * 2) + 3)
    first = asyncio.run(starts(rate, clock, count))
    clock.now += quiet
    assert busiest_minute([*first, *asyncio.run(starts(rate, clock, count))]) <= math.ceil(per_minute)


@pytest.mark.parametrize("per_minute", [1, 10, 60, 600])
async def test_the_rate_is_used_up_but_for_a_little(per_minute: int) -> None:
    clock = FakeTime()
    rate = RequestRate(per_minute, clock, clock.sleep)
    times = await starts(rate, clock, per_minute * 5 + 1)
    assert times[-1] - times[0] <= 300 * 1.02


async def test_requests_come_evenly_with_a_second_worth_at_once() -> None:
    clock = FakeTime()
    rate = RequestRate(600, clock, clock.sleep)
    times = await starts(rate, clock, 100)
    at_once = sum(each == times[0] for each in times)
    assert at_once == 10
    gaps = [later - earlier for earlier, later in itertools.pairwise(times[10:])]
    assert max(gaps) - min(gaps) < 0.001


async def test_a_slow_rate_has_no_burst() -> None:
    clock = FakeTime()
    rate = RequestRate(6, clock, clock.sleep)
    clock.now += 1000
    times = await starts(rate, clock, 3)
    assert [round(each - times[0], 3) for each in times] == [0, 10, 20]


async def test_tokens_are_estimated_first_and_corrected_later() -> None:
    clock = FakeTime()
    rate = RequestRate(6000, clock, clock.sleep)
    begun = clock()
    await rate.take(6000)
    assert clock() == begun
    rate.settle(6000, 600)
    await rate.take(600)
    assert 4 < clock() - begun < 6
    rate.settle(600, 6600)
    begun = clock()
    await rate.take(1)
    assert 60 < clock() - begun < 68


async def test_those_who_wait_go_in_order_and_the_cancelled_take_nothing() -> None:
    rate = RequestRate(1200)
    went: list[int] = []

    async def go(n: int) -> None:
        await rate.take()
        went.append(n)

    begun = time.monotonic()
    tasks = [asyncio.create_task(go(n)) for n in range(40)]
    await asyncio.sleep(0.01)
    assert (len(went), rate.waiting) == (20, 20)
    for task in tasks[20:32]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert went == [*range(20), *range(32, 40)]
    # Twenty at once, then one every 59 ms or so; those who left did not delay anyone.
    assert 0.3 < time.monotonic() - begun < 10
    assert rate.waiting == 0
