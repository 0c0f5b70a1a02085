"""What the pool does with replicas that work, die, hang, or never load."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import pool as pool_module
from cluster.errors import LeaseLost, ModelError, TooManyFailures
from cluster.pool import BARREN_LOSSES, LOT, START_ATTEMPTS
from tests.unit.cluster.scripted_replicas import Night

DEATH = ray.exceptions.ActorDiedError


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Waits between attempts take no time; killing a replica marks it."""
    sleep, wait = asyncio.sleep, asyncio.wait
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asyncio, "sleep", lambda _: sleep(0))
        patch.setattr(asyncio, "wait", lambda given, timeout: wait(given, timeout=0.01))
        patch.setattr(ray, "kill", lambda replica, no_restart: setattr(replica, "killed", no_restart))
        yield


# Each number is how many calls a replica answers, its load among them, before it dies.
@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.integers(1, 5), max_size=BARREN_LOSSES - 1),
    st.integers(1, 40),
    st.integers(1, 20),
)
def test_every_item_is_settled_once_whoever_dies_when(
    replicas: int, lives: list[int], speed: int, in_flight: int
) -> None:
    scripts = [["go on"] * calls + [DEATH()] for calls in lives]
    night = Night(50, replicas, scripts, speed, in_flight).work()
    assert night.all_once
    assert night.pool.restarts == len(night.lost_items) <= len(lives)
    assert all(replica.killed for replica in night.started)
    lots = [lot for replica in night.started for lot in replica.lots]
    assert all(size <= LOT and held <= in_flight for size, held, _ in lots)


def test_a_replica_hurries_back_only_for_another_whole_lot() -> None:
    night = Night(2 * LOT + 3, in_flight=3 * LOT, speed=1).work()
    assert night.started[0].lots[:3] == [(16, 16, True), (16, 31, True), (3, 33, False)]
    full = Night(LOT, in_flight=LOT).work()
    assert full.started[0].lots == [(16, 16, False)]


@pytest.mark.parametrize(("end", "reason"), [(DEATH(), "The actor died"), (None, "no sign of life")])
def test_what_a_dead_or_silent_replica_held_goes_back_and_its_place_is_filled(end: Any, reason: str) -> None:
    night = Night(5, scripts=[["go on", "go on", end]], speed=2).work()
    [(items, why)] = night.lost_items
    assert items == ["2", "3", "4"] and why.startswith(reason)
    assert [replica.place for replica in night.started] == [0, 0] and night.all_once
    assert night.events == ["replica_ready", "replica_lost", "replica_ready"]


def test_a_replica_that_fails_to_load_is_tried_again_and_each_try_is_ended() -> None:
    night = Night(3, scripts=[[ModelError("no file")], [DEATH()]]).work()
    assert night.all_once and len(night.started) == START_ATTEMPTS == 3
    assert night.events == ["replica_failed_to_start"] * 2 + ["replica_ready"]
    assert [replica.killed for replica in night.started] == [True] * 3
    assert night.pool.restarts == 0


def test_a_replica_that_never_loads_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "START_TIMEOUT", 0.03)
    night = Night(3, scripts=[[None]]).work()
    assert night.events == ["replica_failed_to_start", "replica_ready"] and night.all_once


def test_when_no_place_can_be_filled_the_run_ends_with_the_last_reason() -> None:
    night = Night(3, 2, [[ModelError("no file\nmore")]] * 6)
    with pytest.raises(TooManyFailures, match=r"failed to start 3 times; last: no file$"):
        night.work()
    assert len(night.started) == 6 and all(replica.killed for replica in night.started)


def test_a_place_that_is_given_up_leaves_the_work_to_the_others_for_good() -> None:
    # Place 0 and 1 start in turn: those of place 0 never load.
    failing = [ModelError("no GPU")]
    night = Night(400, 2, [failing, [], failing, failing], speed=1).work()
    assert night.all_once and night.events.count("replica_given_up") == 1
    tries = len(night.started)
    night.items, night.waiting = 401, [SimpleNamespace(id="400")]
    night.work()
    assert night.all_once and {replica.place for replica in night.started[tries:]} == {1}


def test_a_place_whose_replicas_die_before_anything_is_settled_is_given_up() -> None:
    deaths: list[list[Any]] = [["go on", DEATH()] for _ in range(BARREN_LOSSES)]
    with pytest.raises(TooManyFailures, match="was lost 5 times without a reply; The actor died"):
        Night(3, scripts=deaths).work()
    night = Night(3, scripts=[*deaths[1:], ["go on", "go on", DEATH()], *deaths[2:]], speed=2).work()
    assert night.all_once and "replica_given_up" not in night.events


def test_a_replica_whose_engine_gives_nothing_back_is_replaced() -> None:
    night = Night(6, scripts=[["go on", "time out"]], in_flight=3).work()
    assert night.events == ["replica_ready", "replica_lost", "replica_ready"]
    # What timed out came back as errors: nothing was aboard any more.
    assert night.lost_items == [([], "its engine gives no replies")]


def test_a_replica_still_loading_when_the_work_ends_is_not_waited_for() -> None:
    night = Night(3, 2, [[], [None]]).work()
    assert night.all_once and night.started[1].called == ["load"] and night.started[1].killed


def test_what_is_not_needed_any_more_is_dropped_and_not_lost() -> None:
    night = Night(8, speed=3, enough=2).work()
    assert night.started[0].called == ["load", "exchange", "drop", "stop"]
    assert (night.settled.total(), night.lost_items) == (3, [])


def test_a_second_source_finds_the_replicas_loaded() -> None:
    night = Night(2)

    async def twice() -> None:
        await night.pool.run(night)
        night.items, night.waiting = 3, [SimpleNamespace(id="2")]
        await night.pool.run(night)
        assert night.pool.alive == 1
        await night.pool.close()

    asyncio.run(twice())
    assert night.started[0].called == ["load", "exchange", "exchange", "stop"]
    assert (night.all_once, night.pool.alive, night.started[0].killed) == (True, 0, True)


def test_an_error_of_the_source_ends_the_run_as_itself() -> None:
    with pytest.raises(LeaseLost, match="taken"):
        Night(5, 3, breaks=LeaseLost("taken")).work()


@pytest.mark.parametrize("end", [DEATH(), None])
def test_closing_ends_a_replica_that_does_not_answer(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STOP_SECONDS", 0.05)
    night = Night(2, scripts=[["go on", "go on", end]]).work()
    assert night.started[0].called == ["load", "exchange", "stop"] and night.started[0].killed
