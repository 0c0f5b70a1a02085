import io
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from cluster import progress
from cluster.progress import Progress
from cluster.screen import visible
from cluster.storage import LocalStore
from tests.terminal import Terminal


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a terminal tells of itself."""
    for name, value in {"TERM": "xterm", "COLUMNS": "60", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)


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


def test_events_come_every_ten_seconds_and_late_in_the_night_every_minute(
    clock: Clock, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    shown = Progress(store, io.StringIO())
    for _ in range(10 * 3600):
        clock.now += 1
        shown.live("rows", "rows", at=clock.now)
    moments = [event["at"] for event in events(store)]
    gaps = [later - earlier for earlier, later in pairwise(moments)]
    assert gaps[:50] == [10.0] * 50 and gaps[-50:] == [60.0] * 50 and gaps == sorted(gaps)
    assert len(moments) < 900


def test_a_terminal_has_one_line_that_is_rewritten_in_place(clock: Clock) -> None:
    stream = Terminal()
    shown = Progress(None, stream)
    minute(shown, clock)
    assert stream.shown() == ["rows 600"]
    assert len(stream.getvalue().split("rows ")) == 122
    shown.live("rows", "12")
    shown.say("done")
    shown.say("really")
    # What was told last stands, though it came too soon to be shown at once.
    assert stream.shown() == ["12", "done", "really", ""]


def test_a_view_of_several_lines_is_redrawn_in_place_and_left_standing(clock: Clock) -> None:
    stream = Terminal()
    shown = Progress(None, stream)
    for tick in range(5):
        clock.now += 1
        shown.live("rows", "not shown", lambda tick=tick: Text(f"one {tick}\ntwo {tick}\nthree"))
    assert stream.shown()[:3] == ["one 4", "two 4", "three"]
    shown.event("failed", reason="why")
    shown.say("error: why")
    assert stream.shown() == ["one 4", "two 4", "three", "error: why", ""]


def test_warnings_and_prints_go_above_what_is_live(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    handler = logging.StreamHandler()
    logging.getLogger().addHandler(handler)
    try:
        shown = Progress(None)
        shown.live("rows", "", lambda: Text("one\ntwo"))
        logging.getLogger("pool").warning("replica-1 was lost")
        print("a print")
        clock.now += 1
        shown.live("rows", "", lambda: Text("one\ntwo"))
        assert stream.shown()[:4] == ["replica-1 was lost", "a print", "one", "two"]
        shown.say("done")
        logging.getLogger("pool").warning("later")
        assert handler.stream is stream
    finally:
        logging.getLogger().removeHandler(handler)
    assert stream.shown() == ["replica-1 was lost", "a print", "one", "two", "done", "later", ""]


def test_the_cursor_is_never_left_hidden(clock: Clock) -> None:
    stream = Terminal()
    Progress(None, stream).live("rows", "rows 1")
    assert stream.getvalue().rindex("\x1b[?25h") > stream.getvalue().rindex("\x1b[?25l")


def test_a_long_text_does_not_wrap_the_live_line_but_is_whole_in_a_plain_one(clock: Clock) -> None:
    live, plain = Terminal(), io.StringIO()
    Progress(None, live).live("rows", "x" * 300)
    Progress(None, plain).live("rows", "x" * 300)
    assert live.shown() == ["x" * 59 + "…"]
    assert plain.getvalue() == "x" * 300 + "\n"


def test_a_dumb_terminal_gets_plain_lines(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    stream = Terminal()
    minute(Progress(None, stream), clock)
    assert stream.getvalue().splitlines() == [f"rows {tick}" for tick in range(0, 601, 100)]


def test_what_was_told_last_is_recorded_before_the_end(clock: Clock, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    shown = Progress(store, io.StringIO())
    for rows in range(3):
        clock.now += 1
        shown.live("rows", "", rows=rows)
    shown.event("ended")
    assert [(event["event"], event.get("rows")) for event in events(store)] == [
        ("rows", 0),
        ("rows", 2),
        ("ended", None),
    ]


def test_what_could_move_the_cursor_is_shown_escaped() -> None:
    assert visible("a\x1b[31mb\r\x9bc\u202ed\ud800") == "a\\x1b[31mb\\x0d\\x9bc\\u202ed\\ud800"
    assert visible("täst\n\t日本 😀") == "täst\n\t日本 😀"


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
