"""Show how far a run is, from any terminal: while it runs, when it is finished, or when it died.

RUN is the folder or URL of a run, its recipe, or its name in the store. Only the run folder is read.

nightshift status demo, or: nightshift status s3://bucket/runs/demo --follow
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import click

from cluster.screen import Screen, console, terminal, visible
from cluster.storage import Store
from jobs.happenings import Event, moment
from jobs.job import guarded
from jobs.report.wording import duration
from jobs.runs import AS_JSON, RUN, STORE, find_run
from jobs.watching import Sight, look
from synth.telling import clock

LOOK_SECONDS = 2.0
LINE_SECONDS = 10.0
RESUMES = "everything committed is kept: the same command resumes"
RESUMABLE = ("failed", "stopped", "died")
COLOURS = {"running": "bold green", "finished": "bold green", "failed": "bold red", "died": "bold red"}


def run(run: str, store: str | None, as_json: bool, follow: bool, ledger: bool) -> int:
    """Show a run once, or until it ends."""
    found = find_run(run, store)
    if follow:
        return _follow(found, as_json, ledger)
    sight = look(found, ledger)
    if as_json:
        click.echo(_one_line(sight, as_json))
    else:
        console(sys.stdout).print(StatusView(sight))
    return 0


def _follow(store: Store, as_json: bool, ledger: bool) -> int:
    """Look again and again until nobody works on the run; Ctrl-C ends the looking alone."""
    screen = Screen(sys.stdout) if terminal(sys.stdout) and not as_json else None
    shown = -LINE_SECONDS
    try:
        while (sight := look(store, ledger)).state == "running":
            if screen is not None:
                screen.draw(StatusView(sight, fit=True))
            elif time.monotonic() - shown >= LINE_SECONDS:
                shown = time.monotonic()
                click.echo(_one_line(sight, as_json))
            time.sleep(LOOK_SECONDS)
        if screen is not None:
            screen.draw(StatusView(sight))
        elif as_json:
            click.echo(_one_line(sight, as_json))
        else:
            console(sys.stdout).print(StatusView(sight))
    except KeyboardInterrupt:
        pass
    finally:
        if screen is not None:
            screen.close()
    return 0


def _one_line(sight: Sight, as_json: bool) -> str:
    if as_json:
        return json.dumps(sight.as_json(), ensure_ascii=False)
    return visible(sight.telling.line() if sight.telling else f"{sight.state}: {sight.doing}")


class StatusView:
    """A sight drawn for a terminal."""

    def __init__(self, sight: Sight, fit: bool = False) -> None:
        self._sight = sight
        self._fit = fit

    def __rich_console__(self, on: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        from synth.panel import Panel

        sight = self._sight
        head = Text(visible(sight.run), "bold").append("  ")
        yield head.append(sight.state, COLOURS.get(sight.state, "bold yellow")).append(_state_words(sight))
        for line in _below(sight):
            yield Text(line, "dim")
        if sight.telling is not None:
            yield Text("")
            yield Panel(sight.telling, self._fit, live=sight.state == "running", spare=len(sight.notable) + 5)
        if sight.notable:
            yield Text("")
        for event in sight.notable:
            ago = f"{duration(max(0.0, sight.at - moment(event)))} ago"
            yield Text(f"{ago:>10}  ", "dim").append(_worded(event), "default")


def _state_words(sight: Sight) -> str:
    """Say what the state means: since when, by whom, and why."""
    sitting, doing = sight.sitting, visible(sight.doing)
    if sitting is None:
        return ": no driver has worked on it yet"
    driver = f"{sitting.host}:{sitting.pid}"
    sign = f"last sign of life {duration(max(0.0, sight.at - sitting.beat))} ago"
    spent = clock(max(0.0, sight.at - sitting.began))
    match sight.state:
        case "running":
            return f" for {spent} by {driver}, {sign}: {doing}"
        case "finished":
            return f" {duration(max(0.0, sight.at - sitting.beat))} ago{_verdict(sight)}"
        case "failed" | "stopped":
            return f" {duration(max(0.0, sight.at - sitting.beat))} ago: {doing}"
    return f": {driver} is gone, {sign}"


def _verdict(sight: Sight) -> str:
    verdict = sight.verdict
    if not verdict:
        return ""
    rows, wanted = verdict["rows"], verdict["wanted"]
    if wanted is None or rows >= wanted:
        return ": the dataset is complete"
    why = [f"stopped early: {verdict['stopped']}"] if verdict["stopped"] else []
    why += [f"{label} stalled ({reason})" for label, reason in verdict["stalled"].items()]
    return visible(f": the dataset has {rows:,} of {wanted:,} rows; {'; '.join(why)}".rstrip("; "))


def _below(sight: Sight) -> Iterator[str]:
    if sight.state in RESUMABLE:
        yield RESUMES
    what = [each for each in (sight.method, sight.teacher) if each]
    sitting = [f"sitting {sight.sitting.epoch}"] if sight.sitting else []
    yield visible(", ".join([sight.url, *what, *sitting]))
    if students := sight.verdict.get("students"):
        scores = ", ".join(f"{name} {score:.1%}" for name, score in students.items() if score is not None)
        yield visible(f"accuracy on the gold test rows: {scores}")
    if sight.told is not None:
        counted = "all sittings" if sight.counted == "run" else "this sitting"
        age = duration(max(0.0, sight.at - sight.told))
        part = f"; of {sight.size / 2**20:.1f} MiB of events the last {sight.read / 2**20:.1f} were read"
        yield f"as of {age} ago; replies counted over {counted}{part if sight.read < sight.size else ''}"


def _worded(event: Event) -> str:
    """Say an event in words: its kind, whom it concerns, and why."""
    told: Sequence[Any] = [
        event.get(name) for name in ("replica", "label", "asks", "reason", "why", "refused")
    ]
    words = "; ".join(str(each) for each in told if each not in (None, ""))
    if event.get("event") == "node_leaving":
        words = f"{event.get('node')} goes in {event.get('seconds')} s"
    return visible(f"{str(event.get('event')).replace('_', ' ')}: {words}")


def _main(**given: Any) -> None:
    sys.exit(guarded(lambda: run(**given)))


main = click.Command(
    "status",
    callback=_main,
    params=[
        RUN,
        STORE,
        AS_JSON,
        click.Option(["--follow"], is_flag=True, help="Look again every two seconds until the run ends."),
        click.Option(
            ["--ledger"], is_flag=True, help="Count the rows of all sittings in the ledger; slower."
        ),
    ],
    help=__doc__,
)

if __name__ == "__main__":
    main()
