"""Tell all that is known of one row: what became of it and why, its sources, and its prompt, built again.

RUN is the folder or URL of a run, its recipe, or its name in the store. ROW is a row's id, an item's id, or
its first eight characters or more. The run folder is only read; no teacher is needed.

nightshift explain demo 5d41402abc4b2a76b9719d911017c592-0
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cluster.screen import console, visible
from jobs.job import guarded
from jobs.runs import AS_JSON, RUN, STORE, find_run

if TYPE_CHECKING:
    from jobs.story import Source, Story

_MARKED = {"accepted": "bold green", "rejected": "bold yellow", "failed": "bold red"}


def run(run: str, row: str, store: str | None, as_json: bool) -> int:
    """Print the story of a row."""
    from jobs.story import tell

    story = tell(find_run(run, store), row)
    if as_json:
        click.echo(json.dumps(asdict(story), ensure_ascii=False, default=_plain))
        return 0
    out = console(sys.stdout)
    for part in _drawn(story):
        out.print(part)
    return 0


def _plain(value: Any) -> Any:
    """Return as JSON has it what JSON has not: signatures are bytes."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _drawn(story: "Story") -> Iterator[Any]:
    from rich.text import Text

    for row in story.rows:
        head = Text(row["row_id"], "bold").append("  ")
        yield head.append(visible(story.verdicts[row["row_id"]]), _MARKED.get(row["status"], "bold"))
        yield from _facts({"Label": " + ".join(row["labels"] or []), "Judged": _pairs(row["verdicts"])})
        for name in story.fields:
            if row.get(name):
                yield from _passage(name.capitalize(), row[name])
        yield from _facts({name.capitalize(): value for name, value in row["extra"].items()})
        yield Text("")
    first = story.rows[0]
    yield from _facts(
        {
            "Item": _item(first),
            "Beside": "; ".join(f"{row['row_id']} {story.verdicts[row['row_id']]}" for row in story.others),
            "Attributes": _pairs(first["attributes"]),
            "Written by": f"{first['teacher']} (revision {first['revision']}) with {first['method']}",
            "Sampling": _sampling(first["sampling"]),
            "Tokens": _tokens([*story.rows, *story.others]),
            "Committed": _committed(story),
        }
    )
    yield from _sources(story)
    yield from _prompt(story)
    for doubt in story.doubts:
        yield Text("Note        ", "bold yellow").append(visible(doubt), "default")


def _facts(facts: Mapping[str, str]) -> Iterator[Any]:
    """Yield a table of the facts that are known."""
    from rich.table import Table

    known = {name: value for name, value in facts.items() if value}
    if known:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="bold", no_wrap=True, min_width=10)
        table.add_column(overflow="fold")
        for name, value in known.items():
            table.add_row(visible(name), visible(value))
        yield table


def _passage(heading: str, text: str | None, style: str = "") -> Iterator[Any]:
    """Yield a heading and, indented, a text."""
    from rich.padding import Padding
    from rich.text import Text

    yield Text(visible(heading), "bold")
    shown = Text(visible(text), style) if text is not None else Text("text not known", "dim")
    yield Padding(shown, (0, 0, 0, 4), expand=False)


def _sources(story: "Story") -> Iterator[Any]:
    if story.seed is not None:
        about = f", {story.seed.label}" if story.seed.label else ""
        yield from _passage(f"Seed {story.seed.id}{about}", story.seed.text)
    for document in story.documents:
        place = [f"rank {document.rank}"] if document.rank is not None else []
        place += [f"score {document.score:.3f}"] if document.score is not None else []
        yield from _passage(", ".join([f"Document {document.id}", *place]), document.text)
    for number, shot in enumerate(story.shots, 1):
        yield from _passage(f"Shot {number}: {shot.id}", _shot(shot))


def _shot(shot: "Source") -> str | None:
    return shot.text if shot.document is None else f"{shot.text}\n(written from: {shot.document})"


def _prompt(story: "Story") -> Iterator[Any]:
    hashes: Sequence[str] = story.rows[0]["prompt_hashes"] or []
    later = hashes[1:]
    if story.prompt is not None:
        said = {
            True: "hash checked",
            False: "HASH DIFFERS: this is not what was sent",
            None: "not checked: the ledger keeps no hash of it",
        }[story.checked]
        yield from _passage(f"Prompt ({said})", story.prompt)
    yield from _facts(
        {
            "Sent": hashes[0] if hashes else "",
            "Built now": (story.prompt_hash or "") if story.checked is False else "",
            "Later calls": f"{', '.join(later)} (they depend on replies, which are not kept)"
            if later
            else "",
        }
    )


def _item(row: Mapping[str, Any]) -> str:
    if row["position"] is None:
        return f"{row['item_id']}, prepared before the plan"
    return f"{row['item_id']}, round {row['round']}, position {row['position']:,} of the plan"


def _pairs(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _sampling(told: str | None) -> str:
    if told is None:
        return ""
    return ", ".join(
        f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in json.loads(told).items()
    )


def _tokens(rows: Sequence[Mapping[str, Any]]) -> str:
    names = ("prompt_tokens", "reply_tokens", "judge_prompt_tokens", "judge_reply_tokens")
    sums = {name: sum(row.get(name) or 0 for row in rows) for name in names}
    words = [
        f"{count:,} {name.replace('_tokens', '').replace('_', ' ')}" for name, count in sums.items() if count
    ]
    return ", ".join(words)


def _committed(story: "Story") -> str:
    if story.sitting is None:
        return story.part
    began = datetime.fromtimestamp(story.sitting.began).astimezone().isoformat(sep=" ", timespec="seconds")
    driver = f"{story.sitting.host}:{story.sitting.pid}"
    return f"{story.part}, in sitting {story.sitting.epoch}, which {driver} began at {began}"


def _main(**given: Any) -> None:
    sys.exit(guarded(lambda: run(**given)))


main = click.Command(
    "explain",
    callback=_main,
    params=[RUN, click.Argument(["row"], metavar="ROW"), STORE, AS_JSON],
    help=__doc__,
)

if __name__ == "__main__":
    main()
