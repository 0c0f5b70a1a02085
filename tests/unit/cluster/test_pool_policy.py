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
from cluster import replica as replica_module
from cluster.errors import LeaseLost, ModelError, TooManyFailures
from cluster.places import BARREN_LOSSES, START_ATTEMPTS, Place
from cluster.shift import LOT
from tests.unit.cluster.scripted_replicas import BEAT, SEATS, Night
from tests.unit.cluster.scripted_waits import short_waits

DEATH = ray.exceptions.ActorDiedError


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with short_waits():
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
    assert night.all_once and not night.aloft
    assert night.pool.restarts == len(night.lost_items) <= len(lives)
    assert all(replica.killed for replica in night.started)
    lots = [lot for replica in night.started for lot in replica.lots]
    assert all(size <= LOT and held <= in_flight for size, held, _ in lots)
    assert all(granted == (7.0,) for replica in night.started for granted in replica.granted)


def test_a_replica_hurries_back_only_for_another_whole_lot() -> None:
    night = Night(2 * LOT + 3, in_flight=3 * LOT, speed=1).work()
    assert night.started[0].lots[:3] == [(LOT, LOT, True), (LOT, 2 * LOT - 1, True), (3, 2 * LOT + 1, False)]
    full = Night(LOT, in_flight=LOT).work()
    assert full.started[0].lots == [(LOT, LOT, False)]


def test_without_a_setting_a_replica_holds_what_it_asked_for() -> None:
    night = Night(20, speed=1, in_flight=None).work()
    assert max(held for _, held, _ in night.started[0].lots) == 8
    [ready] = [told for told in night.told if told["kind"] == "replica_ready"]
    assert (ready["in_flight"], ready["seats"], ready["node"]) == (8, SEATS, "node-0")


@pytest.mark.parametrize(("end", "reason"), [(DEATH(), "The actor died"), (None, "no sign of life")])
def test_what_a_dead_or_silent_replica_held_goes_back_and_its_place_is_filled(end: Any, reason: str) -> None:
    night = Night(5, scripts=[["go on", "go on", end]], speed=2).work()
    [(items, why, innocent)] = night.lost_items
    assert items == ["2", "3", "4"] and why.startswith(reason) and not innocent
    assert len(night.started) == 2 and night.all_once
    assert night.events == ["replica_ready", "replica_lost", "replica_ready"]
    assert night.accounts == [("replica-1", "lost"), ("replica-2", "ended")]


def test_a_replica_that_fails_to_load_is_tried_again_and_each_try_is_ended() -> None:
    night = Night(3, scripts=[[ModelError("no file")], [DEATH()]]).work()
    assert night.all_once and len(night.started) == START_ATTEMPTS == 3
    assert night.events == ["replica_failed_to_start"] * 2 + ["replica_ready"]
    assert [replica.killed for replica in night.started] == [True] * 3
    assert night.pool.restarts == 0 and night.accounts == [("replica-3", "ended")]


def test_a_replica_that_never_loads_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "START_TIMEOUT", 0.03)
    night = Night(3, scripts=[[None]]).work()
    assert night.events == ["replica_failed_to_start", "replica_ready"] and night.all_once


def test_when_no_place_can_be_filled_the_run_ends_with_the_last_reason() -> None:
    night = Night(3, 2, [[ModelError("no file\nmore")]] * 6)
    with pytest.raises(TooManyFailures, match=r"failed to start 3 times in a row; last: no file$"):
        night.work()
    assert len(night.started) == 6 and all(replica.killed for replica in night.started)


def test_a_place_that_is_given_up_leaves_the_work_to_the_others_for_good() -> None:
    # The two places start in turn: those of the first never load.
    failing = [ModelError("no GPU")]
    night = Night(100, 2, [failing, [], failing, failing], speed=1, beat=BEAT).work()
    assert night.all_once and night.events.count("replica_given_up") == 1
    tries = len(night.started)
    night.items, night.waiting = 101, [SimpleNamespace(id="100")]
    night.work()
    assert night.all_once and len(night.started) == tries + 1


def test_a_place_whose_replicas_die_before_anything_is_settled_is_given_up() -> None:
    deaths: list[list[Any]] = [["go on", DEATH()] for _ in range(BARREN_LOSSES)]
    with pytest.raises(
        TooManyFailures, match=rf"lost {BARREN_LOSSES} times in a row .*; last: The actor died"
    ):
        Night(3, scripts=deaths).work()
    night = Night(3, scripts=[*deaths[1:], ["go on", "go on", DEATH()], *deaths[1:]], speed=2).work()
    assert night.all_once and "replica_given_up" not in night.events


def test_a_place_rests_longer_after_each_barren_loss_but_not_after_one_that_settled() -> None:
    place = Place()
    pauses = [(place.lost(0, innocent=False), place.pause())[1] for _ in range(4)]
    assert pauses == [0.001, 0.002, 0.004, 0.008]
    assert place.lost(1, innocent=False) is None and place.pause() == 0
    # A node that goes is no fault of the place; but where nothing else happens, it is not asked in a rush.
    pauses = [(place.lost(0, innocent=True), place.pause())[1] for _ in range(40)]
    assert pauses[:3] == [0, 0.001, 0.002] and pauses[-1] == 30 and not place.given_up


def test_a_replica_whose_engine_gives_nothing_back_is_replaced() -> None:
    night = Night(6, scripts=[["go on", "time out"]], in_flight=3).work()
    assert night.events == ["replica_ready", "replica_lost", "replica_ready"]
    # That they timed out is not held against the items: they went with the replica, as suspects.
    (lost,) = night.lost_items
    assert (lost[0], lost[2]) == (["0", "1", "2"], False)
    assert lost[1] == "no reply, nor to anything else: its engine gives no replies"
    assert night.all_once


def test_a_replica_still_loading_when_the_work_ends_is_not_waited_for() -> None:
    night = Night(60, 2, [[], [None]], speed=1).work()
    # Whether it came to loading at all is a matter of moments.
    assert night.all_once and night.started[1].called in ([], ["load"]) and night.started[1].killed


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
        assert night.pool.alive == 1 and set(night.pool.loaded) == {"replica-1"}
        await night.pool.close()

    asyncio.run(twice())
    assert night.started[0].called == ["load", "exchange", "drop", "exchange", "drop", "stop"]
    assert (night.all_once, night.pool.alive, night.started[0].killed) == (True, 0, True)


def test_an_error_of_the_source_ends_the_run_as_itself() -> None:
    with pytest.raises(LeaseLost, match="taken"):
        Night(5, 3, breaks=LeaseLost("taken")).work()


@pytest.mark.parametrize("end", [DEATH(), None])
def test_closing_ends_a_replica_that_does_not_answer(end: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "STOP_SECONDS", 0.05)
    night = Night(2, scripts=[["go on", "go on", "go on", end]]).work()
    assert night.started[0].called == ["load", "exchange", "drop", "stop"] and night.started[0].killed
