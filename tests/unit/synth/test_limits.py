import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.budget import open_budget
from cluster.errors import SettingsError
from cluster.purse import Currency
from cluster.settings import override, validate
from cluster.storage import LocalStore
from cluster.work import Vitals
from synth.limits import Limits
from synth.rows import Tokens

PRICES = {"prompt_million": 0.5, "reply_million": 2.0}


def limits(**given: Any) -> Limits:
    return validate(Limits, given, "recipe.yaml")


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_without_limits_nothing_is_counted() -> None:
    assert limits().currencies() == limits().amounts() == ()
    assert limits().ends(0) is None


def test_tokens_and_money_are_counted_call_by_call() -> None:
    given = limits(tokens=1000, money=2.5, prices=PRICES)
    assert given.currencies() == (Currency("tokens", 1, 1), Currency("money", 0.5e-6, 2e-6))
    assert given.amounts() == (1000.0, 2.5)
    assert limits(money=2.5, prices=PRICES).amounts() == (2.5,)
    assert limits(prices=PRICES).currencies() == ()


def test_money_for_gpus_alone_is_no_matter_of_calls() -> None:
    given = limits(money=2.5, prices={"gpu_hour": 3})
    assert given.currencies() == () and given.gpu_price == 3


@pytest.mark.parametrize(
    ("given", "key", "shown"),
    [
        ({"money": 5}, "money: needs a price", "prompt_million: 0.15"),
        ({"money": 0, "prices": PRICES}, "money: ", "greater than 0"),
        ({"money": float("nan"), "prices": PRICES}, "money: ", "finite"),
        ({"tokens": 0}, "tokens: ", "greater than or equal to 1"),
        ({"tokens": 1.5}, "tokens: ", "integer"),
        ({"hours": -1}, "hours: ", "greater than 0"),
        ({"gpu_hours": "inf"}, "gpu_hours: ", "finite"),
        ({"prices": {"gpu_hour": -1}}, "prices.gpu_hour: ", "greater than or equal to 0"),
        ({"deadline": "at dawn"}, "deadline: is no moment", 'deadline: "07:00"'),
        ({"deadline": "25:00"}, "deadline: is no moment", "2031-05-17T07:00"),
        ({"deadline": 7}, "deadline: write a time of day", 'deadline: "07:00"'),
        ({"deadline": True}, "deadline: write a time of day", 'deadline: "07:00"'),
        ({"token": 5}, "token: unknown key", "did you mean tokens?"),
    ],
)
def test_what_is_wrong_is_named_with_an_example(given: dict[str, Any], key: str, shown: str) -> None:
    with pytest.raises(SettingsError) as error:
        limits(**given)
    assert str(error.value).startswith("recipe.yaml: ")
    assert key in str(error.value) and shown in str(error.value)


@pytest.mark.parametrize(
    ("deadline", "started", "ends"),
    [
        ("07:00", "2025-01-10T22:00-05:00", "2025-01-11T07:00-05:00"),
        ("7:00", "2025-01-11T06:59-05:00", "2025-01-11T07:00-05:00"),
        ("07:00", "2025-01-11T07:00-05:00", "2025-01-12T07:00-05:00"),
        ("07:00", "2025-03-08T22:00-05:00", "2025-03-09T07:00-04:00"),
        ("2025-01-12T06:30", "2025-01-10T22:00-05:00", "2025-01-12T06:30-05:00"),
        ("2025-01-12 06:30:00+00:00", "2025-01-10T22:00-05:00", "2025-01-12T06:30+00:00"),
        ("2020-01-01", "2025-01-10T22:00-05:00", "2020-01-01T00:00-05:00"),
    ],
)
@pytest.mark.usefixtures("in_new_york")
def test_a_deadline_is_the_next_such_moment(deadline: str, started: str, ends: str) -> None:
    moment = limits(deadline=deadline).ends(datetime.fromisoformat(started).timestamp())
    assert moment is not None
    assert datetime.fromtimestamp(moment, UTC) == datetime.fromisoformat(ends)


@pytest.mark.parametrize(
    ("written", "read"),
    [("07:00", "07:00"), ("10:30", "10:30"), ("'10:30'", "10:30"), ("2031-05-17", "2031-05-17")],
)
def test_a_deadline_needs_no_quotes(written: str, read: str) -> None:
    data = override({}, [f"limits.deadline={written}"])
    assert limits(**data["limits"]).deadline == read
    assert limits(**override(yaml.safe_load("{}"), [f"deadline={written}"])).deadline == read


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tokens", "limits.tokens: 1,000,000 is reached"),
        ("hours", "limits.hours: 2.5 is reached"),
        ("deadline", "the deadline 07:00 has come"),
    ],
)
def test_the_reason_names_the_limit_and_how_to_go_on(name: str, said: str) -> None:
    reason = limits(tokens=1_000_000, hours=2.5, deadline="07:00").reason(name)
    assert reason.startswith(said) and "goes on from here" in reason


def test_the_costs_hold_what_was_spent_and_what_is_left(tmp_path: Path) -> None:
    given = limits(tokens=5000, money=20, gpu_hours=4, deadline="07:00", prices=PRICES | {"gpu_hour": 3.0})
    budget = open_budget(LocalStore(tmp_path), given.currencies(), given.amounts(), (1200.0, 0.002))
    (granted, _) = budget.grant("a")
    budget.close("a", None)
    budget.clock.add(7200, 1800)
    costs = given.costs(budget, Tokens(1000, 200))
    assert costs["tokens"] == {"prompt": 1000, "reply": 200}
    assert (costs["gpu_hours"], costs["hours"]) == (2.0, 0.5)
    assert costs["money"]["gpus"] == 6 and costs["money"]["total"] == pytest.approx(6.002, abs=0.1)
    spent = costs["limits"]["tokens"]["spent"]
    assert spent == pytest.approx(1200 + granted)
    assert costs["limits"]["tokens"] == {"limit": 5000, "spent": spent, "left": 5000 - spent}
    assert costs["limits"]["gpu_hours"]["left"] == 2
    assert costs["limits"]["deadline"] == {"limit": "07:00"}
    assert "hours" not in costs["limits"]


def test_a_judge_of_its_own_has_a_price_of_its_own(tmp_path: Path) -> None:
    given = limits(money=9.0, tokens=10**7, prices=PRICES, judge_prices={"reply_million": 10})
    tokens = Tokens(2_000_000, 500_000, 1_000_000, 100_000)
    assert given.of_tokens(tokens) == pytest.approx(1 + 1 + 1)
    assert given.spent_on(tokens) == pytest.approx((3_600_000, 3))
    assert [each.name for each in given.judge_rates()] == [each.name for each in given.currencies()]
    costs = given.costs(open_budget(LocalStore(tmp_path), (), (), ()), tokens)
    assert costs["tokens"] == tokens._asdict() and costs["money"]["total"] == pytest.approx(3)
    # Without one the judge is as dear as the teacher; with one, it may be all that costs.
    assert limits(prices=PRICES).of_tokens(tokens) == pytest.approx(1 + 1 + 0.5 + 0.2)
    only = limits(money=1.0, judge_prices={"prompt_million": 1})
    assert only.spent_on(tokens) == pytest.approx((1,))


def test_gpus_of_a_judge_are_those_of_the_teacher() -> None:
    with pytest.raises(SettingsError, match=r"judge_prices: .*give prices.gpu_hour"):
        limits(judge_prices={"gpu_hour": 1})


def test_without_prices_and_limits_the_costs_are_tokens_and_time(tmp_path: Path) -> None:
    budget = open_budget(LocalStore(tmp_path), (), (), ())
    budget.hear("a", Vitals())
    assert limits().costs(budget, Tokens(1000, 200)) == {
        "tokens": {"prompt": 1000, "reply": 200},
        "gpu_hours": 0,
        "hours": 0,
        "limits": {},
    }
