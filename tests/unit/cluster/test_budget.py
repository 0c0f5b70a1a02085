"""The driver's side of the purse: real purses, scripted replicas, deaths, crashes; never above the limit."""

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import spending
from cluster.budget import Budget, Clock, Spent, open_budget
from cluster.errors import LeaseLost, StorageError
from cluster.lease import Lease, acquire
from cluster.purse import Currency, Purse
from cluster.spending import KEY, read_spent
from cluster.storage import LocalStore
from cluster.work import Vitals

TOKENS = Currency("tokens", 1.0, 1.0)
MONEY = Currency("money", 0.15e-6, 0.6e-6)
LIMIT = 1_000_000.0


class Counting(LocalStore):
    """Counts writes, and fails them on demand."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.writes = 0
        self.fails = False

    def write(self, key: str, data: bytes) -> None:
        if self.fails:
            raise StorageError(f"{key}: cannot be written")
        self.writes += 1
        super().write(key, data)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


def one_limit(store: Counting, limit: float = LIMIT, ledger: float = 0.0) -> Budget:
    return open_budget(store, [TOKENS], (limit,), (ledger,))


def on_record(store: Counting, name: str = "tokens") -> float:
    return read_spent(store).amounts[name]


def test_without_currencies_nothing_is_held_back_or_written(store: Counting) -> None:
    budget = open_budget(store, (), (), ())
    assert budget.grant("a") == ()
    budget.hear("a", Vitals())
    assert budget.exhausted() is None
    assert store.writes == 0


def test_a_replica_starts_with_a_share_and_gets_what_it_wants(store: Counting) -> None:
    budget = one_limit(store)
    (first,) = budget.grant("a")
    assert 0 < first <= 0.05 * LIMIT
    assert budget.grant("a") == (first,)
    budget.hear("a", Vitals(blocked=2, used=(0.0,), wanted=(50_000.0,)))
    (more,) = budget.grant("a")
    assert first + 50_000 <= more <= first + 50_000 + 0.05 * LIMIT


def test_what_calls_under_way_need_goes_along_with_what_was_spent(store: Counting) -> None:
    budget = one_limit(store)
    (first,) = budget.grant("a")
    budget.hear("a", Vitals(blocked=2, running=5, used=(0.0,), wanted=(50_000.0,)))
    for used in range(0, 30_000, 1000):
        budget.hear("a", Vitals(running=7, used=(used,), wanted=(0.0,)))
    (granted,) = budget.grant("a")
    assert granted >= 29_000 + first + 50_000, "the next calls need not wait"


def test_what_may_be_spent_is_on_record_first(store: Counting) -> None:
    budget, random_ = one_limit(store), random.Random(1)
    used = 0.0
    for _ in range(2000):
        (granted,) = budget.grant("a")
        assert granted <= on_record(store) <= LIMIT
        used = random_.uniform(used, granted)
        budget.hear("a", Vitals(running=1, blocked=1, used=(used,), wanted=(500.0,)))
    assert granted > 0.98 * LIMIT
    assert store.writes <= 70


def test_what_a_replica_did_not_use_returns_unless_it_died(store: Counting) -> None:
    budget = one_limit(store)
    (granted,) = budget.grant("a")
    budget.grant("b")
    budget.close("a", Vitals(used=(10.0,)))
    budget.close("b", None)
    budget.close("b", None)
    assert budget.committed == budget.spent
    (second,) = (budget.spent["tokens"] - 10,)
    assert second == pytest.approx(granted, rel=0.01)
    budget.hear("b", Vitals(used=(99.0,), wanted=(5.0,)))
    assert budget.committed["tokens"] == pytest.approx(10 + second)


def test_a_last_account_without_amounts_counts_the_whole_grant(store: Counting) -> None:
    budget = one_limit(store)
    (granted,) = budget.grant("a")
    budget.close("a", Vitals())
    assert budget.spent["tokens"] == granted


def test_a_clean_end_writes_what_was_spent(store: Counting) -> None:
    budget = one_limit(store)
    budget.grant("a")
    budget.close("a", Vitals(used=(123.0,)))
    assert on_record(store) > 123
    budget.save()
    assert on_record(store) == 123
    assert one_limit(store).spent == {"tokens": 123}
    assert one_limit(store, ledger=500).spent == {"tokens": 500}


def test_closing_all_counts_grants_of_those_not_heard(store: Counting) -> None:
    budget = one_limit(store)
    (granted,) = budget.grant("a")
    budget.close_all()
    assert on_record(store) == granted


def test_a_crash_costs_what_was_granted_and_the_open_block(store: Counting) -> None:
    budget = one_limit(store)
    budget.grant("a")
    budget.hear("a", Vitals(running=1, used=(1000.0,), wanted=(2000.0,)))
    granted = budget.committed["tokens"]
    again = one_limit(store)
    assert granted <= again.spent["tokens"] <= granted + LIMIT / 64 + 1


def test_a_store_that_fails_grants_nothing_until_it_is_back(store: Counting) -> None:
    budget = one_limit(store)
    store.fails = True
    assert budget.grant("a") == (0.0,)
    for _ in range(3):
        budget.hear("a", Vitals(blocked=1, used=(0.0,), wanted=(10.0,)))
    assert budget.grant("a") == (0.0,)
    assert budget.exhausted() is None, "there is enough, it only cannot be granted now"
    store.fails = False
    budget.hear("a", Vitals(blocked=1, used=(0.0,), wanted=(10.0,)))
    assert budget.grant("a")[0] >= 10


def test_a_driver_that_lost_its_lease_grants_nothing(store: Counting) -> None:
    lease = acquire(store)
    lease.release()
    acquire(store)
    budget = open_budget(store, [TOKENS], (LIMIT,), (0.0,), lease)
    with pytest.raises(LeaseLost):
        budget.grant("a")
    assert isinstance(lease, Lease) and not store.exists(KEY)


STUCK = Vitals(blocked=1, used=(100.0,), wanted=(50.0,))


def drained(store: Counting) -> Budget:
    """A budget of which replica a holds everything and is stuck."""
    budget = one_limit(store, 100)
    budget.grant("a")
    for used in (0.0, 100.0):
        budget.hear("a", Vitals(blocked=1, used=(used,), wanted=(100.0,)))
    return budget


def test_nothing_left_is_told_when_no_call_is_under_way(store: Counting) -> None:
    budget = drained(store)
    assert budget.exhausted() is None
    budget.hear("a", Vitals(running=1, blocked=1, used=(100.0,), wanted=(50.0,)))
    budget.hear("a", STUCK)
    assert budget.exhausted() is None, "a call may have started since"
    budget.hear("a", STUCK)
    assert budget.exhausted() == "tokens"


def test_others_at_work_put_the_end_off_and_others_at_rest_do_not(store: Counting) -> None:
    budget = one_limit(store, 1000)
    budget.grant("b")
    budget.grant("a")
    for _ in range(4):
        budget.hear("a", Vitals(blocked=1, used=(50.0,), wanted=(2000.0,)))
    assert budget.exhausted() is None, "b was never heard"
    budget.hear("b", Vitals(running=1, used=(1.0,), wanted=(0.0,)))
    assert budget.exhausted() is None
    budget.hear("b", Vitals(used=(2.0,), wanted=(0.0,)))
    assert budget.exhausted() is None, "b has only just finished: there may be more for it"
    budget.rest("b")
    assert budget.exhausted() == "tokens"
    budget.grant("b")
    assert budget.exhausted() is None, "b was given work"
    budget.hear("b", Vitals(running=1, used=(2.0,), wanted=(0.0,)))
    budget.rest("b")
    assert budget.exhausted() is None, "it has still something to do"
    budget.grant("b")
    assert budget.exhausted() is None, "b was given work"
    budget.close("b", Vitals(used=(2.0,)))
    assert budget.exhausted() is None, "what b returns can be granted"


def test_a_budget_spent_by_earlier_sittings_is_told_at_once(store: Counting) -> None:
    assert one_limit(store, 100, ledger=100).exhausted() == "tokens"
    assert one_limit(store, 100, ledger=99).exhausted() is None


def test_a_limit_can_move(store: Counting) -> None:
    budget = drained(store)
    budget.set_limit("tokens", 50)
    budget.set_limit("money", 1)
    budget.hear("a", STUCK)
    assert budget.committed["tokens"] == pytest.approx(100)
    budget.set_limit("tokens", 200)
    budget.hear("a", STUCK)
    assert 150 <= budget.grant("a")[0] <= 200


@pytest.mark.parametrize("text", ["", "[]", '{"amounts": {}}', '{"amounts": {"tokens": "x"}, "seconds": 1}'])
def test_a_damaged_file_is_named(store: Counting, text: str) -> None:
    (store.fetch("") / KEY).write_text(text)
    with pytest.raises(StorageError, match=r"spending\.json: is damaged"):
        one_limit(store)


def test_amounts_of_other_currencies_stay_on_record(store: Counting) -> None:
    store.write(KEY, json.dumps({"amounts": {"money": 3.0}, "gpu_seconds": 1, "seconds": 2}).encode())
    one_limit(store).save()
    assert read_spent(store) == Spent({"money": 3.0, "tokens": 0.0}, 1.0, 2.0)


class Bounds:
    """Limits on time, as the recipe gives them."""

    def __init__(self, **given: Any) -> None:
        self.money = given.get("money")
        self.gpu_hours = given.get("gpu_hours")
        self.hours = given.get("hours")
        self.gpu_price = given.get("gpu_price", 0.0)
        self._end = given.get("end")

    def ends(self, started: float) -> float | None:
        return None if self._end is None else float(self._end)


def test_time_adds_up_over_sittings(store: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spending, "SAVE_SECONDS", 0.0)
    one_limit(store).clock.add(40, 10)
    clock = one_limit(store).clock
    assert (clock.gpu_seconds, clock.seconds) == (40, 10)
    clock.add(8, 2)
    clock.add(12, 3)
    assert (clock.gpu_seconds, clock.seconds) == (52, 13)
    assert read_spent(store).seconds == 13


def test_time_is_saved_seldom_and_survives_a_failing_store(
    store: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = one_limit(store).clock
    for seconds in range(100):
        clock.add(seconds, seconds)
    assert store.writes == 0
    monkeypatch.setattr(spending, "SAVE_SECONDS", 0.0)
    store.fails = True
    clock.add(1, 1)
    assert not store.exists(KEY)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, None),
        ({"end": 1001}, None),
        ({"end": 1000}, "deadline"),
        ({"hours": 2}, None),
        ({"hours": 1}, "hours"),
        ({"gpu_hours": 8}, "gpu_hours"),
        ({"gpu_hours": 9}, None),
        ({"money": 16, "gpu_price": 2}, "money"),
        ({"money": 17, "gpu_price": 2}, None),
        ({"money": 1}, None),
    ],
)
def test_the_limit_that_is_reached_is_named(store: Counting, given: dict[str, Any], name: str | None) -> None:
    clock = one_limit(store).clock
    clock.add(8 * 3600, 3600)
    assert clock.over(Bounds(**given), 1000) == name


def test_tokens_may_cost_what_gpus_leave(store: Counting) -> None:
    budget = open_budget(store, [MONEY], (10.0,), (4.0,))
    bounds = Bounds(money=10.0, gpu_price=2.0)
    assert isinstance(budget.clock, Clock)
    budget.clock.add(3600, 3600)
    budget.set_limit("money", 10.0 - budget.clock.gpu_money(bounds))
    budget.grant("a")
    budget.hear("a", Vitals(running=1, blocked=1, used=(0.0,), wanted=(9.0,)))
    assert budget.committed["money"] == pytest.approx(8.0)
    assert budget.clock.over(bounds, 0) is None
    assert budget.clock.over(bounds, 0, 8.0) == "money"


def test_a_replica_that_ended_in_good_order_can_come_back(store: Counting) -> None:
    budget = one_limit(store)
    (first,) = budget.grant("a")
    budget.close("a", Vitals(used=(700.0,)))
    (again,) = budget.grant("a")
    assert 700 < again <= first + 700
    assert budget.spent["tokens"] == 700
    budget.close("a", None)
    assert budget.spent["tokens"] == pytest.approx(again)


class Replica:
    """Calls against a real purse; what an engine would do happens at once, in a random order."""

    def __init__(self, currencies: list[Currency], seed: random.Random) -> None:
        self.purse = Purse(currencies)
        self._random = seed
        self._calls: set[asyncio.Task[None]] = set()
        self._running: list[asyncio.Event] = []

    async def exchange(self, granted: tuple[float, ...], calls: int) -> Vitals:
        self.purse.grant(granted)
        while len(self._calls) < calls:
            self._calls.add(asyncio.create_task(self._call()))
        await asyncio.sleep(0)
        for _ in range(self._random.randint(0, 4)):
            if self._running:
                self._running.pop(self._random.randrange(len(self._running))).set()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        self._calls = {call for call in self._calls if not call.done()}
        return Vitals(len(self._running), 0, self.purse.blocked, self.purse.used, self.purse.wanted)

    async def _call(self) -> None:
        prompt, most = self._random.randint(100, 900), self._random.choice([50, 300])
        price = await self.purse.reserve(prompt, most)
        finish = asyncio.Event()
        self._running.append(finish)
        await finish.wait()
        self.purse.settle(price, prompt, self._random.randint(1, most))

    async def drop(self) -> Vitals:
        """Give up all calls and let go of what is not used."""
        self.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._calls.clear()
        self._running.clear()
        used, self.purse = self.purse.used, Purse(self.purse.currencies)
        self.purse.used = used
        return Vitals(used=used, wanted=self.purse.wanted)

    def cancel(self) -> None:
        for call in self._calls:
            call.cancel()


class Night:
    """Sittings of one run under a budget; remembers what was really spent by all replicas ever."""

    def __init__(self, store: Counting, seed: int, currencies: list[Currency], limits: tuple[float, ...]):
        self.random = random.Random(seed)
        self._store, self._currencies, self._limits = store, currencies, limits
        self._ended = [0.0 for _ in currencies]
        self._ledger = [0.0 for _ in currencies]
        self._replicas: dict[str, Replica] = {}
        self._names = iter(range(10**9))

    def spent(self) -> Iterator[float]:
        for n, amount in enumerate(self._ended):
            yield amount + sum(replica.purse.used[n] for replica in self._replicas.values())

    async def sitting(self, replicas: int, deaths: float, rounds: int | None) -> str | None:
        """Work until the budget is exhausted, or so many rounds until the driver crashes."""
        budget = open_budget(self._store, self._currencies, self._limits, tuple(self._ledger))
        done = 0
        while (name := budget.exhausted()) is None and (rounds is None or done < rounds):
            done += 1
            assert done < 200_000, "the budget neither grants nor ends"
            while len(self._replicas) < replicas:
                seed = random.Random(self.random.random())
                self._replicas[f"r{next(self._names)}"] = Replica(self._currencies, seed)
            await self._round(budget, deaths)
        if name is None:
            for gone in list(self._replicas):
                self._end(gone)
            return None
        for replica in list(self._replicas):
            budget.close(replica, Vitals(used=self._replicas[replica].purse.used))
            self._end(replica)
        budget.save()
        return name

    async def _round(self, budget: Budget, deaths: float) -> None:
        replica = self.random.choice(list(self._replicas))
        granted = budget.grant(replica)
        vitals = await self._replicas[replica].exchange(granted, calls=12)
        for amount, limit in zip(self.spent(), self._limits, strict=True):
            assert amount <= limit * (1 + 1e-9)
        if self.random.random() < deaths:
            budget.close(replica, None)
            self._end(replica)
        elif self.random.random() < deaths:
            budget.close(replica, await self._replicas[replica].drop())
        else:
            budget.hear(replica, vitals)

    def _end(self, name: str) -> None:
        replica = self._replicas.pop(name)
        replica.cancel()
        for n, amount in enumerate(replica.purse.used):
            self._ended[n] += amount
            self._ledger[n] += amount * self.random.random()


@pytest.mark.parametrize("seed", range(8))
def test_a_run_without_crashes_uses_its_budget_and_no_coin_more(store: Counting, seed: int) -> None:
    limit = 400_000.0 if seed % 2 else 1_500_000.0
    night = Night(store, seed, [TOKENS], (limit,))
    assert asyncio.run(night.sitting(1 + seed, 0.0, None)) == "tokens"
    (spent,) = night.spent()
    assert 0.98 * limit <= spent <= limit
    assert on_record(store) == pytest.approx(spent)
    assert store.writes <= 70


@pytest.mark.parametrize("seed", range(12))
def test_deaths_and_crashes_never_make_a_run_spend_more(store: Counting, seed: int) -> None:
    night = Night(store, 100 + seed, [TOKENS, MONEY], (600_000.0, 0.14))
    for _ in range(50):
        rounds = night.random.choice([1, 20, 300, None])
        if asyncio.run(night.sitting(night.random.randint(1, 9), 0.02, rounds)) is not None:
            break
    else:
        pytest.fail("never exhausted")
    assert any(amount > 0.3 * limit for amount, limit in zip(night.spent(), (600_000, 0.14), strict=True))
