"""How far a run is, drawn for a terminal: a bar for every label that fits, then speed, teachers and costs."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cluster.screen import visible
from synth.telling import Telling, clock, limited

NAME_WIDTH = 28
BAR_WIDTH = (8, 40)
"""Narrowest and widest bar of a label."""
GAP = 3
FEW = 4
"""So many labels are not put beside one another."""
REASONS = 5
"""Reasons for rejections that are named; the rest is added up."""


class Panel:
    """Draws a telling within the width there is; within the height too when that is asked for."""

    def __init__(self, telling: Telling, fit: bool = False, live: bool = True, spare: int = 0) -> None:
        """spare: lines of the height that others use."""
        self._telling = telling
        self._fit = fit
        self._live = live
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        for name, fact in self._facts():
            table.add_row(name, fact)
        width, lines = options.max_width, None
        if self._fit:
            below = len(console.render_lines(table, options))
            # The head and the line below all of it, where the cursor stays.
            lines = max(3, console.size.height - below - 2 - self._spare)
        yield self._head(width)
        yield from self._labels(width, lines)
        yield table

    def _head(self, width: int) -> Table:
        told = self._telling
        done = f"{told.filled:,} of {told.wanted:,} rows" if told.wanted else f"{told.filled:,} rows"
        parts: list[Any] = [Text(done, style="bold")]
        if told.wanted:
            bar = max(BAR_WIDTH[0], min(60, width - cell_len(done) - 24))
            parts += [_bar(told.filled, told.wanted, bar), f"{told.filled / told.wanted:.0%}"]
        if self._live and told.filled < told.wanted:
            parts.append(f"ETA {clock(told.eta_seconds)}")
        table = Table.grid(padding=(0, 2))
        for _ in parts:
            table.add_column(no_wrap=True)
        table.add_row(*parts)
        return table

    def _labels(self, width: int, lines: int | None) -> Iterator[Any]:
        """Yield the bars of as many labels as fit, in the order of the task, or else those that lag first."""
        told = self._telling
        labels = [label for label in (told.targets or told.kept) if told.targets.get(label, 1)]
        if not labels:
            return
        name = min(NAME_WIDTH, max(cell_len(_name(label)) for label in labels))
        least = name + max(len(self._count(label)) for label in labels) + BAR_WIDTH[0] + 2 + GAP
        columns = max(1, (width + GAP) // least)
        if lines is None or len(labels) <= lines * columns:
            shown, left = labels, labels[:0]
        else:
            most, labels = max(1, (lines - 1) * columns), sorted(labels, key=told.share)
            shown, left = labels[:most], labels[most:]
        # Few labels stand below one another.
        columns = min(columns, math.ceil(len(shown) / FEW))
        spare = (width + GAP) // columns - least
        yield self._bars(shown, columns, name, min(BAR_WIDTH[1], BAR_WIDTH[0] + max(0, spare)))
        if left:
            rest = f"… and {len(left)} more labels, each at least {told.share(left[0]):.0%} full"
            yield Text(rest, style="dim")

    def _bars(self, labels: Sequence[str], columns: int, name: int, bar: int) -> Table:
        table = Table.grid(padding=(0, 1))
        for column in range(columns):
            table.add_column(no_wrap=True, overflow="ellipsis", max_width=name)
            table.add_column(no_wrap=True, justify="right")
            table.add_column(no_wrap=True, width=bar + (GAP - 1 if column < columns - 1 else 0))
        height = math.ceil(len(labels) / columns)
        for line in range(height):
            cells: list[Any] = []
            for label in labels[line::height]:
                filled, wanted = self._telling.kept.get(label, 0), self._telling.targets.get(label, 0)
                cells += [_name(label), self._count(label), _bar(filled, wanted, bar)]
            table.add_row(*cells)
        return table

    def _count(self, label: str) -> str:
        return f"{self._telling.kept.get(label, 0):,}/{self._telling.targets.get(label, 0):,}"

    def _facts(self) -> Iterator[tuple[str, Text | str]]:
        told = self._telling
        yield "Speed", _speed(told, self._live)
        if self._live:
            yield "Teacher", _teacher(told)
        elif told.restarts:
            yield "Restarts", f"{told.restarts:,}"
        yield "Rejected", _rejected(told)
        if told.surplus:
            yield "Surplus", ", ".join(f"{_plain(why)} {n:,}" for why, n in told.surplus.items())
        if costs := _costs(told):
            yield "Spent", costs
        if limits := _limits(told):
            yield "Limits", limits


def _bar(done: int, total: int, width: int) -> ProgressBar:
    full = done >= total
    style = "green" if full else "cyan"
    return ProgressBar(
        max(1, total), min(done, max(1, total)), width, complete_style=style, finished_style=style
    )


def _speed(told: Telling, live: bool) -> str:
    mean = told.average
    if not live or told.now is None:
        tokens = f"{mean.reply_tokens:,.0f} reply and {mean.prompt_tokens:,.0f} prompt tokens/s"
        return f"{mean.rows:.3g} rows/s, {tokens}"
    now = told.now
    return (
        f"{now.rows:.3g} rows/s (average {mean.rows:.3g}), {now.reply_tokens:,.0f} reply tokens/s "
        f"(average {mean.reply_tokens:,.0f}), {now.prompt_tokens:,.0f} prompt tokens/s"
    )


def _teacher(told: Telling) -> Text:
    text = Text(f"{told.replicas:,} replica{'' if told.replicas == 1 else 's'} alive")
    if told.seats:
        text.append(f", {told.running:,} of {told.seats:,} seats busy")
        if told.waiting:
            text.append(f", {told.waiting:,} waiting")
    if told.gpu is not None:
        text.append(f", GPU {told.gpu:.0%}")
    text.append(", ").append(
        f"{told.restarts:,} restart{'' if told.restarts == 1 else 's'}", _alarm(told.restarts)
    )
    return text


def _rejected(told: Telling) -> Text:
    rejected, failed = told.rows.get("rejected", 0), told.rows.get("failed", 0)
    returned = rejected + told.rows.get("accepted", 0)
    text = Text(f"{rejected:,} of {returned:,} replies")
    if rejected:
        reasons = told.reasons()
        named = [f"{_plain(reason)} {count:,}" for reason, count in reasons[:REASONS]]
        if more := sum(count for _, count in reasons[REASONS:]):
            named.append(f"others {more:,}")
        text.append(f" ({rejected / returned:.0%}): {', '.join(named)}")
    return text.append("; ").append(f"{failed:,} failed", _alarm(failed))


def _costs(told: Telling) -> str:
    costs = told.costs
    tokens, money = costs.get("tokens") or {}, costs.get("money") or {}
    parts: Sequence[str] = [
        *([f"{short(sum(tokens.values()))} tokens"] if tokens else []),
        *([f"money {money['total']:,.4g}"] if "total" in money else []),
        *([f"{costs['gpu_hours']:,.3g} GPU-hours"] if costs.get("gpu_hours") else []),
        *([f"{costs['hours']:,.3g} hours"] if "hours" in costs else []),
    ]
    return ", ".join(parts)


def _limits(told: Telling) -> Text:
    text = Text()
    for name, each in limited(told.costs).items():
        share = each["spent"] / each["limit"] if each["limit"] else 1.0
        words = f"{name.replace('_', ' ')} {short(each['spent'])} of {short(each['limit'])} ({share:.0%})"
        text.append(", " if text else "").append(words, "yellow" if share > 0.9 else "")
    deadline = ((told.costs.get("limits") or {}).get("deadline") or {}).get("limit")
    return text.append(f"{', ' if text else ''}deadline {deadline}") if deadline else text


def short(number: float) -> str:
    """Write an amount with three digits that matter, thousands and millions by a letter."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= size:
            return f"{number / (1e3 if letter == 'k' else size):.3g}{letter}"
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:.3g}"


def _name(label: str) -> str:
    return visible(label).replace("\n", " ").replace("\t", " ")


def _plain(reason: str) -> str:
    return visible(reason).replace("_", " ")


def _alarm(count: int) -> str:
    return "yellow" if count else ""
