"""What a run may cost at most: tokens, money, GPU-hours, hours, and a deadline. Outside every fingerprint."""

import datetime as dt
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from cluster.purse import Currency
from cluster.settings import Settings
from synth.rows import Tokens

if TYPE_CHECKING:
    from cluster.budget import Budget

MILLION = 1_000_000
HOUR = 3600.0
_MINUTES_OF_A_DAY = 24 * 60
_EXAMPLE = 'write a time of day, deadline: "07:00", or a moment, deadline: "2031-05-17T07:00"'


def _moment(value: Any) -> Any:
    """Return a deadline as text; YAML reads 10:30 without quotes as the number 630."""
    if isinstance(value, int) and not isinstance(value, bool) and 60 <= value < _MINUTES_OF_A_DAY:
        value = f"{value // 60:02d}:{value % 60:02d}"
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(_EXAMPLE)
    try:
        _read(value)
    except ValueError as error:
        raise ValueError(f"is no moment; {_EXAMPLE}") from error
    return value


def _read(text: str) -> dt.time | dt.datetime:
    hours, colon, rest = text.partition(":")
    if colon and len(hours) <= 2:
        return dt.time.fromisoformat(f"{hours:0>2}:{rest}")
    return dt.datetime.fromisoformat(text)


class Prices(Settings):
    """What the teacher costs, in money of any currency."""

    prompt_million: float = Field(0.0, ge=0, allow_inf_nan=False)
    """A million prompt tokens."""
    reply_million: float = Field(0.0, ge=0, allow_inf_nan=False)
    """A million reply tokens."""
    gpu_hour: float = Field(0.0, ge=0, allow_inf_nan=False)
    """An hour of one GPU."""

    def of_tokens(self, prompt: int, reply: int) -> float:
        """Return the price of so many tokens."""
        return (prompt * self.prompt_million + reply * self.reply_million) / MILLION


class Limits(Settings):
    """Where a run stops with what it has, counted over all its sittings."""

    tokens: int | None = Field(None, ge=1)
    """Prompt and reply tokens of the run."""
    money: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Money for tokens and GPU-hours; needs prices."""
    gpu_hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Hours of all GPUs that replicas hold."""
    hours: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Hours of generation."""
    deadline: Annotated[str | None, BeforeValidator(_moment)] = None
    """Local time of day after the start, such as "07:00", or a moment, such as "2031-05-17T07:00"."""
    prices: Prices = Prices()
    """What the teacher costs."""
    judge_prices: Prices | None = None
    """What the tokens of a judge with a teacher of its own cost; without it, as much as the teacher's."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.judge_prices is not None and self.judge_prices.gpu_hour:
            raise ValueError("judge_prices: the judge is on the teacher's GPUs; give prices.gpu_hour")
        if self.money is not None and not self.priced:
            raise ValueError(
                "money: needs a price; give limits.prices, for example "
                "{prompt_million: 0.15, reply_million: 0.6} or {gpu_hour: 2.5}"
            )
        return self

    @property
    def gpu_price(self) -> float:
        """Money for an hour of one GPU."""
        return self.prices.gpu_hour

    @property
    def priced(self) -> bool:
        """Whether anything costs money."""
        return any(each != Prices() for each in (self.prices, self.judge_prices or Prices()))

    def of_tokens(self, tokens: Tokens) -> float:
        """Return the price of some tokens, those of a judge with a teacher of its own at its price."""
        judge = self.judge_prices or self.prices
        return self.prices.of_tokens(*tokens[:2]) + judge.of_tokens(*tokens[2:])

    def currencies(self) -> tuple[Currency, ...]:
        """Return what every call is counted in before it starts: tokens, and money where tokens cost some."""
        return self._rates(self.prices)

    def judge_rates(self) -> tuple[Currency, ...]:
        """Return the same currencies with the prices of a judge's own teacher."""
        return self._rates(self.judge_prices or self.prices)

    def spent_on(self, tokens: Tokens) -> tuple[float, ...]:
        """Return what some tokens cost in each of the currencies."""
        pairs = zip(self.currencies(), self.judge_rates(), strict=True)
        return tuple(ours.of(*tokens[:2]) + judge.of(*tokens[2:]) for ours, judge in pairs)

    def _rates(self, prices: Prices) -> tuple[Currency, ...]:
        counted = []
        if self.tokens is not None:
            counted.append(Currency("tokens", 1.0, 1.0))
        costly = (self.prices, self.judge_prices or self.prices)
        if self.money is not None and any(each.prompt_million + each.reply_million for each in costly):
            counted.append(Currency("money", prices.prompt_million / MILLION, prices.reply_million / MILLION))
        return tuple(counted)

    def amounts(self) -> tuple[float, ...]:
        """Return the limit in each of the currencies."""
        return tuple(float(getattr(self, each.name)) for each in self.currencies())

    def ends(self, started: float) -> float | None:
        """Return the deadline of a sitting that started then, both in seconds since 1970."""
        if self.deadline is None:
            return None
        moment = _read(self.deadline)
        if isinstance(moment, dt.datetime):
            return moment.timestamp()
        start = dt.datetime.fromtimestamp(started, moment.tzinfo)
        next_one = dt.datetime.combine(start.date(), moment)
        if next_one.timestamp() <= started:
            next_one = dt.datetime.combine(start.date() + dt.timedelta(days=1), moment)
        return next_one.timestamp()

    def reason(self, name: str) -> str:
        """Say in a sentence that a limit stopped the run, and how to go on."""
        value = getattr(self, name)
        shown = value if isinstance(value, str) else f"{value:,}"
        said = (
            f"the deadline {shown} has come" if name == "deadline" else f"limits.{name}: {shown} is reached"
        )
        later = "the same command later" if name == "deadline" else "the same command with a higher limit"
        return f"{said}; {later} goes on from here"

    def costs(self, budget: "Budget", tokens: Tokens) -> dict[str, Any]:
        """Return the `costs` section of metrics.json; the tokens are those of the ledger.

        Money and tokens under limits also hold what died replicas may have spent, which no row shows.
        """
        clock, prices = budget.clock, self.prices
        for_tokens = max(self.of_tokens(tokens), budget.spent.get("money", 0.0))
        for_gpus = clock.gpu_seconds / HOUR * prices.gpu_hour
        costs: dict[str, Any] = {
            "tokens": {name: n for name, n in tokens._asdict().items() if n or not name.startswith("judge")},
            "gpu_hours": round(clock.gpu_seconds / HOUR, 4),
            "hours": round(clock.seconds / HOUR, 4),
        }
        if self.priced:
            money = {"tokens": for_tokens, "gpus": for_gpus, "total": for_tokens + for_gpus}
            costs["money"] = {name: round(amount, 6) for name, amount in money.items()}
        spent = {
            "tokens": max(float(sum(tokens)), budget.spent.get("tokens", 0.0)),
            "money": for_tokens + for_gpus,
            "gpu_hours": clock.gpu_seconds / HOUR,
            "hours": clock.seconds / HOUR,
        }
        costs["limits"] = {
            name: {"limit": limit, "spent": round(used, 6), "left": round(max(0.0, limit - used), 6)}
            for name, used in spent.items()
            if (limit := getattr(self, name)) is not None
        } | ({"deadline": {"limit": self.deadline}} if self.deadline else {})
        return costs
