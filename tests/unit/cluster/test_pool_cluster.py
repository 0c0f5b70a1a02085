"""What the pool does when the cluster around its replicas changes."""

import asyncio
import math
import random
from collections.abc import Iterator

import pytest
import ray

from cluster import replica as replica_module
from cluster.errors import TooManyFailures
from tests.unit.cluster.scripted_replicas import BEAT, Night, Replica
from tests.unit.cluster.scripted_waits import short_waits

DEATH = ray.exceptions.ActorDiedError


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    with short_waits():
        yield


def test_replicas_join_while_the_cluster_grows_and_none_is_ended_when_it_shrinks() -> None:
    night = Night(900, speed=1, beat=BEAT)

    def change() -> None:
        night.replicas = 3 if night.settled.total() < 500 else 1

    night.later = change
    night.work()
    assert night.all_once and len(night.started) == 3
    assert all(replica.called.count("exchange") > 50 for replica in night.started)
    assert "replica_lost" not in night.events and "replica_retires" not in night.events


def test_waiting_for_room_is_told_once_and_is_no_failed_start() -> None:
    room = asyncio.Semaphore(1)
    night = Night(200, 2, speed=1, room=room, beat=BEAT)

    async def slowly() -> None:
        work = asyncio.create_task(night.pool.run(night))
        await asyncio.sleep(0.15)
        assert night.events == ["replica_ready", "replica_waits"] and night.pool.alive == 1
        room.release()
        await work
        assert night.pool.alive == 2 and 0.1 < night.pool.replica_seconds < 40
        await night.pool.close()

    asyncio.run(slowly())
    [waits] = [told for told in night.told if told["kind"] == "replica_waits"]
    assert waits["asks"] == "4 GPUs" and night.events.count("replica_ready") == 2
    assert night.all_once and all(replica.killed for replica in night.started)


def test_a_cluster_without_room_for_any_replica_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replica_module, "START_TIMEOUT", 0.1)
    night = Night(3, 2, room=asyncio.Semaphore(0))
    with pytest.raises(TooManyFailures, match=r"no replica has found room .* each needs 4 GPUs; start nodes"):
        night.work()
    assert all(replica.killed and not replica.called for replica in night.started)
    assert night.pool.replica_seconds == 0


def test_a_replica_whose_node_is_to_go_finishes_while_its_successor_works_already() -> None:
    night = Night(200, speed=1, beat=BEAT)

    def tell() -> None:
        if night.settled.total() > 20:
            night.going = {"node-0": 20.0}

    night.later = tell
    night.work()
    first, second = night.started
    assert night.all_once and night.lost_items == [] and night.pool.restarts == 1
    assert night.accounts == [("replica-1", "ended"), ("replica-2", "ended")]
    assert night.events.index("node_leaving") < night.events.index("replica_retires")
    assert night.events.count("node_leaving") == 1 and not first.held
    # It got nothing new any more, and its last exchanges brought in what it held.
    assert [size for size, _, _ in first.lots[-7:]] == [0] * 7 and first.called[-1] == "drop"
    assert second.called.count("exchange") > 50


@pytest.mark.parametrize("node", ["node-0", "node-0-beside"])
def test_what_cannot_be_finished_before_the_node_goes_is_done_elsewhere_without_blame(node: str) -> None:
    night = Night(100, scripts=[["go on"] * 4 + [None]], speed=1)

    def tell() -> None:
        if night.settled.total() == 2:
            night.going = {node: 0.05}

    night.later = tell
    night.work()
    [(items, _, innocent)] = night.lost_items
    assert items and innocent and night.all_once and "replica_given_up" not in night.events


def test_a_replica_leaves_in_good_order_even_if_it_is_too_slow_to_finish() -> None:
    night = Night(40, speed=1, beat=0.02)
    night.later = lambda: night.going.update({"node-0": 0.1} if night.settled.total() else {})
    night.work()
    [(items, reason, innocent)] = night.lost_items
    assert items and innocent and reason == "its node leaves" and night.all_once
    assert night.accounts[:2] == [("replica-1", "ended"), ("replica-1", "lost")]


def test_a_node_that_is_told_to_go_at_no_set_time_is_left_when_all_is_finished() -> None:
    night = Night(60, speed=1, beat=BEAT)
    night.later = lambda: night.going.update({"node-0": math.inf} if night.settled.total() > 9 else {})
    night.work()
    [notice] = [told for told in night.told if told["kind"] == "node_leaving"]
    assert notice["seconds"] is None and notice["replicas"] == ["replica-1"]
    assert night.all_once and night.lost_items == []


def test_a_replica_that_loads_on_a_node_that_is_to_go_is_started_elsewhere_at_once() -> None:
    night = Night(9, scripts=[[None]])
    night.going = {"node-0": 600.0}
    night.work()
    [failed] = [told for told in night.told if told["kind"] == "replica_failed_to_start"]
    assert failed["innocent"] and failed["reason"] == "its node leaves before it is loaded"
    assert night.all_once and len(night.started) == 2


def test_losses_with_a_node_do_not_count_against_a_place() -> None:
    night = Night(9, scripts=[["go on", DEATH()] for _ in range(8)])
    night.gone = {f"node-{number}" for number in range(8)}
    night.work()
    assert night.all_once and len(night.lost_items) == 8
    assert all(innocent for _, _, innocent in night.lost_items)


def test_a_node_may_be_seen_to_be_gone_only_after_its_replica_was_lost() -> None:
    night = Night(9, scripts=[["go on", DEATH()]])

    async def late() -> None:
        work = asyncio.create_task(night.pool.run(night))
        while not night.started or "exchange" not in night.started[0].called:
            await asyncio.sleep(0)
        await asyncio.sleep(0.005)
        night.gone = {"node-0"}
        await work
        await night.pool.close()

    asyncio.run(late())
    assert [innocent for _, _, innocent in night.lost_items] == [True]


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_of_deaths_notices_and_lost_nodes_loses_and_doubles_nothing(seed: int) -> None:
    chance = random.Random(seed)
    night = Night(2400, replicas=3, speed=2, in_flight=chance.choice([None, 3, 50]))

    def living() -> list[Replica]:
        return [replica for replica in night.started if not replica.killed]

    def strike() -> None:
        if chance.random() > 0.08 or not living():
            return
        struck, kind = chance.choice(living()), chance.randrange(6)
        if kind < 2:
            night.going = night.going | {struck.node: chance.choice([0.0, 0.01, 0.1, math.inf])}
        if kind in (1, 2):
            night.gone.add(struck.node)
        if kind in (1, 2, 3):
            struck.script = [DEATH()]
        elif kind == 4:
            struck.script = ["time out"]
        elif kind == 5 and chance.random() < 0.3:
            struck.script = [None]
        night.replicas = chance.randint(1, 5)

    night.later = strike
    night.work()
    assert night.all_once and not night.aloft
    assert all(replica.killed for replica in night.started)
    names = [name for name, _ in night.accounts]
    assert len(names) - len(set(names)) == sum(
        # A replica that left with items aboard hands in its account, and then what it held.
        night.accounts.count((name, "ended")) * night.accounts.count((name, "lost"))
        for name in set(names)
    )
    assert len(night.lost_items) > 3
