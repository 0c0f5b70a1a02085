"""Find the texts of a corpus that meet a condition over the labels of students, best first.

nightshift mine recipe.yaml "positive and about_food and not spam" --corpus texts.jsonl --student spam=RUN

or: python -m jobs.mine recipe.yaml "Sports or Business" --corpus s3://bucket/texts. A name is a label, a
student, or student:label. Predictions are kept in the store, so that the next condition is quick.
"""

import json
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import click

from cluster.errors import SettingsError
from cluster.models import is_there
from cluster.settings import digest
from cluster.storage import Store, open_store
from jobs.job import job
from jobs.predict import CORPUS_OPTIONS, base, kept, model_folder, predicted, reading_of, student_in
from jobs.stage import View
from training.condition import Condition, literals
from training.grammar import parse
from training.mining import Mine, Mined, Predictions, mine
from training.student_place import StudentPlace, students_in

PRECISION_AT = (10, 50, 100)
MINED = "mined.jsonl"
_SHOWN = 10
_INDENT = " " * 13


def run(
    view: View,
    condition: str,
    student: Sequence[str],
    top: int,
    gold: Sequence[str],
    out: str | None,
    corpus: str | None,
    text: Sequence[str],
    bad_rows: Literal["stop", "refuse"],
) -> int:
    """Predict the corpus with the students that the condition names, rank it, and print the best."""
    places = _students(view, student)
    labels = {name: place.labels() for name, place in places.items()}
    wanted = parse(condition, labels)
    columns = _gold(gold, labels)
    reading = reading_of(view, corpus, text, bad_rows, tuple(columns.values()), keep_text=True, own=False)
    predictions = {}
    for name in dict.fromkeys(each.student for each in literals(wanted)):
        folder = kept(view, name, places[name], reading)
        predictions[name] = Predictions(folder, predicted(view, places[name], reading, folder, name))
    found = mine(wanted, predictions, top, columns)
    identity = [condition, sorted((name, each.folder.url) for name, each in predictions.items())]
    where = open_store(out, base()) if out is not None else view.root.within(f"mined/{digest(identity)[:12]}")
    _write(where, condition, wanted, found)
    for each in found.best[:_SHOWN]:
        click.echo(_readable(each))
    _tell(found)
    view.progress.say(f"Mine: the best {len(found.best)} of {found.rows:,} rows are in {where.url}/{MINED}")
    return 0


def _students(view: View, given: Sequence[str]) -> dict[str, StudentPlace]:
    """Return the students of the recipe's run and those that the command names, by the name they go by."""
    run = view.root.within(view.recipe.run)
    found = {name: StudentPlace(run, f"students/{name}") for name in students_in(run)}
    for each in given:
        name, equals, where = each.partition("=")
        if not equals or not name or not where:
            raise SettingsError(f"--student {each}: write it as NAME=RUN, NAME=RUN/STUDENT or NAME=FOLDER")
        found[name] = _named(view, name, where)
    if not found:
        raise SettingsError(f"mine: run {run.url} holds no students; train some, or give --student NAME=RUN")
    return found


def _named(view: View, name: str, where: str) -> StudentPlace:
    """Return the student in a folder, or in a run of the store: the one of that name, or its only one."""
    if "://" in where or is_there(base() / Path(where).expanduser() / "config.json"):
        return model_folder(where)
    parent, _, last = where.rpartition("/")
    if parent and last in students_in(view.root.within(parent)):
        return StudentPlace(view.root.within(parent), f"students/{last}")
    run = view.root.within(where)
    return student_in(run, name if name in students_in(run) else None, f"--student {name}={where}")


def _gold(given: Sequence[str], students: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the columns that hold what is true: by student, or under an empty name for all."""
    columns: dict[str, str] = {}
    for each in given:
        name, equals, column = each.rpartition("=")
        if equals and name not in students:
            raise SettingsError(
                f"--gold {each}: there is no student {name!r}; there are {', '.join(students)}"
            )
        columns[name] = column
    return columns


def _write(where: Store, condition: str, wanted: Condition, found: Mine) -> None:
    lines = [json.dumps(asdict(each), ensure_ascii=False) for each in found.best]
    where.write(MINED, "".join(f"{line}\n" for line in lines).encode())
    summary: dict[str, Any] = {
        "condition": condition,
        "labels": [str(each) for each in dict.fromkeys(literals(wanted))],
        "rows": found.rows,
        "judged": found.judged,
        "right": found.right,
        "precision": [asdict(each) for at in PRECISION_AT if (each := found.precision(at)) is not None],
    }
    where.write("mined.json", json.dumps(summary, ensure_ascii=False, indent=1).encode())


def _readable(each: Mined) -> str:
    width = max(60, min(110, shutil.get_terminal_size((110, 24)).columns))
    shortened = textwrap.shorten(each.text, 2 * (width - len(_INDENT)), placeholder=" …")
    text = textwrap.fill(shortened, width, initial_indent=_INDENT, subsequent_indent=_INDENT)
    parts = "  ".join(f"{name} {probability:.3f}" for name, probability in each.probabilities.items())
    verdict = {None: "", True: "  right", False: "  wrong"}[each.right]
    return f"{each.rank:>4}  {each.score:9.5f}  {parts}  [{each.id}]{verdict}\n{text}"


def _tell(found: Mine) -> None:
    """Print the precision where there is gold, beside that of rows drawn at random."""
    if not found.judged:
        return
    for at in PRECISION_AT:
        each = found.precision(at)
        if each is not None:
            low, high = each.interval
            click.echo(
                f"precision@{at:<4} {each.precision:.3f} [{low:.3f}, {high:.3f}]  "
                f"{each.right} of {each.judged} judged"
            )
    share = found.right / found.judged
    click.echo(f"at random      {share:.3f}  {found.right:,} of {found.judged:,} judged rows are right")


main = job(
    "mine",
    run,
    click.Argument(["condition"]),
    *CORPUS_OPTIONS,
    click.Option(
        ["--student"],
        multiple=True,
        metavar="NAME=PLACE",
        help="Student beside those of the run: NAME=RUN, RUN/STUDENT or FOLDER; repeatable.",
    ),
    click.Option(["--top"], type=click.IntRange(1), default=100, show_default=True, help="Texts kept."),
    click.Option(
        ["--gold"],
        multiple=True,
        metavar="COLUMN",
        help="Column that holds what is true, for precision@k; STUDENT=COLUMN for one student; repeatable.",
    ),
    click.Option(
        ["--out"], metavar="FOLDER", help="Folder of mined.jsonl. [default: mined/HASH in the store]"
    ),
    owns=False,
)

if __name__ == "__main__":
    main()
