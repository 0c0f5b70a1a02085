import json
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.progress import Progress
from cluster.work import Loaded, Vitals
from synth import ticker
from synth.feed import Tally
from synth.rows import Tokens
from synth.telling import Speed, Telling, read_telling
from synth.ticker import Pace, Ticker


class Clock:
    """A clock that tests move."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(ticker, "time", clock)
    return clock


class Progressed(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any, dict[str, Any]]] = []

    def live(self, kind: str, text: str, view: Any = None, **data: Any) -> None:
        self.told.append((kind, text, view, data))


def run_for(pace: Pace, clock: Clock, seconds: float, tally: Tally, a_second: int) -> None:
    """Look five times a second while so many rows come in each."""
    for _ in range(round(seconds * 5)):
        clock.now += 0.2
        tally.rows["accepted"] += a_second // 5
        tally.tokens = tally.tokens.plus(Tokens(reply=2 * a_second))
        pace.look(tally, tally.rows["accepted"] // 2, True)


def test_the_speed_of_the_last_minute_stands_beside_the_average(clock: Clock) -> None:
    pace, tally = Pace(), Tally()
    pace.look(tally, 0, False)
    clock.now += 500  # Loading does not count.
    pace.look(tally, 0, True)
    run_for(pace, clock, 300, tally, 100)
    run_for(pace, clock, 100, tally, 10)
    now = pace.now()
    assert now is not None
    assert (now.rows, now.reply_tokens) == (pytest.approx(10, rel=0.05), pytest.approx(100, rel=0.05))
    assert pace.average().rows == pytest.approx(31_000 / 400, rel=0.01)
    assert pace.filling() == pytest.approx(5, rel=0.1)


def test_before_a_replica_is_loaded_there_is_no_speed(clock: Clock) -> None:
    pace = Pace()
    for _ in range(10):
        clock.now += 1
        pace.look(Tally(), 0, False)
    assert (pace.now(), pace.average(), pace.filling()) == (None, Speed(), 0.0)


def test_a_window_keeps_a_minute_of_marks_and_no_more(clock: Clock) -> None:
    pace = Pace()
    run_for(pace, clock, 600, Tally(), 10)
    assert len(pace._marks) < 70


def test_a_tick_tells_all_that_a_look_from_outside_needs(clock: Clock) -> None:
    tally = Tally(
        Counter({"accepted": 30, "rejected": 12, "rejected:refusal": 7, "rejected:empty": 5}),
        Tokens(900, 600),
    )
    quota = SimpleNamespace(targets={"a": 20, "b": 30})
    source: Any = SimpleNamespace(
        planner=SimpleNamespace(quota=quota, filled=lambda: {"a": 20, "b": 10}),
        tally=tally,
        vitals={"x": Vitals(running=3, waiting=2, gpu=0.5), "y": Vitals(running=4, gpu=0.9), "z": Vitals()},
    )
    loaded = {name: Loaded("node", 12, 8) for name in "xyz"}
    pool: Any = SimpleNamespace(loaded=loaded, alive=3, restarts=1)
    watch: Any = SimpleNamespace(look=lambda source: None, costs=lambda tokens: {"tokens": tokens._asdict()})
    progress = Progressed()
    Ticker(progress, source, pool, watch, Tokens(100, 10, 1)).tick()
    ((kind, text, view, data),) = progress.told
    assert kind == "synthesis" and "Rows 30/50" in text and "GPU 70%" in text and text.endswith("b 10/30")
    told = read_telling(json.loads(json.dumps(data)))
    assert (told.kept, told.targets) == ({"a": 20, "b": 10}, {"a": 20, "b": 30})
    assert told.reasons() == [("refusal", 7), ("empty", 5)]
    assert (told.prompt_tokens, told.costs["tokens"]) == (
        900,
        {"prompt": 1000, "reply": 610, "judge_prompt": 1, "judge_reply": 0},
    )
    assert (told.running, told.waiting, told.seats, told.replicas, told.restarts) == (7, 2, 24, 3, 1)
    assert told.gpu == pytest.approx(0.7) and told.now == Speed()
    assert view() is not None


def test_what_an_older_version_told_is_read_as_far_as_it_goes() -> None:
    told = read_telling(
        {"time": "…", "event": "synthesis", "kept": {"a": 1}, "rows": {}, "eta_seconds": None}
    )
    assert told == Telling({"a": 1})
    assert told.line().endswith("a 1/0")
