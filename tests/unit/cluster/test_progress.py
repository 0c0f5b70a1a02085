import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cluster import progress
from cluster.progress import WIDTH, Progress
from cluster.storage import LocalStore


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that tests move."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that progress looks at."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def events(store: LocalStore) -> list[dict[str, Any]]:
    """What lies in events.jsonl."""
    return [json.loads(line) for line in store.read("events.jsonl").decode().splitlines()]


def minute(shown: Progress, clock: Clock) -> None:
    """Report ten times a second for a minute, from 0 on."""
    for tick in range(601):
        clock.now = 1000 + tick / 10
        shown.live("rows", f"rows {tick}", rows=tick)


def test_where_there_is_no_terminal_a_plain_line_comes_every_ten_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    minute(Progress(None, stream), clock)
    assert stream.getvalue().splitlines() == [f"rows {tick}" for tick in range(0, 601, 100)]
    assert "\r" not in stream.getvalue()


def test_a_terminal_has_one_line_that_is_rewritten_in_place(clock: Clock) -> None:
    stream = Terminal()
    shown = Progress(None, stream)
    minute(shown, clock)
    assert "\n" not in stream.getvalue()
    lines = stream.getvalue().split("\r")[1:]
    assert len(lines) == 121
    # A shorter text must cover what a longer one left.
    assert {len(line) for line in lines} == {WIDTH}
    shown.say("done")
    shown.say("really")
    assert stream.getvalue().endswith(f"{'rows 600':<{WIDTH}}\ndone\nreally\n")


def test_a_long_text_does_not_wrap_the_live_line_but_is_whole_in_a_plain_one(clock: Clock) -> None:
    for stream, width in ((Terminal(), WIDTH + 1), (io.StringIO(), 301)):
        Progress(None, stream).live("rows", "x" * 300)
        assert len(stream.getvalue()) == width


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["plain", "terminal"])
def test_events_are_recorded_every_ten_seconds_whatever_is_shown(
    clock: Clock, tmp_path: Path, stream: io.StringIO
) -> None:
    store = LocalStore(tmp_path)
    minute(Progress(store, stream), clock)
    assert [event["rows"] for event in events(store)] == list(range(0, 601, 100))


def test_an_event_is_one_line_of_json_with_the_time_in_utc(tmp_path: Path) -> None:
    store, stream = LocalStore(tmp_path), io.StringIO()
    shown = Progress(store, stream)
    shown.event("started", epoch=3, note="zwei\nZeilen – über 😀")
    shown.step("ended", "All done.", rows=5)
    started, ended = events(store)
    assert (started["event"], started["epoch"], started["note"]) == ("started", 3, "zwei\nZeilen – über 😀")
    assert (ended["event"], ended["rows"]) == ("ended", 5)
    time = datetime.fromisoformat(started["time"])
    assert time.utcoffset() == timedelta(0) and abs(datetime.now(UTC) - time) < timedelta(minutes=1)
    assert stream.getvalue() == "All done.\n"


def test_without_a_store_nothing_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Progress(None).step("ended", "text")
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "text\n")
