"""Classify a corpus with a student: Parquet parts with id, label and the probability of each label.

nightshift predict recipe.yaml --student minilm --corpus texts.jsonl.zst --out labelled, or: python -m
jobs.predict recipe.yaml --corpus s3://bucket/texts; the same command resumes.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import click

from cluster.errors import SettingsError
from cluster.session import check_shared, in_job
from cluster.settings import digest
from cluster.storage import LocalStore, Store, open_store, place
from jobs.job import job
from jobs.stage import View
from retrieval.reading.work import check_corpus
from retrieval.settings import CorpusSettings
from training.corpus_plan import Reading, identity_of
from training.corpus_prediction import predict_corpus
from training.corpus_report import CorpusReport
from training.student_place import StudentPlace, students_in

CORPUS_OPTIONS = (
    click.Option(
        ["--corpus"], metavar="PLACE", help="File or folder, local or s3://. [default: the recipe's corpus]"
    ),
    click.Option(
        ["--text"],
        multiple=True,
        metavar="COLUMN",
        help="Column of --corpus that holds the text (corpus.text). [default: text]",
    ),
    click.Option(
        ["--bad-rows"],
        type=click.Choice(["stop", "refuse"]),
        default="stop",
        show_default=True,
        help="What a row of --corpus that cannot be used does (corpus.bad_rows).",
    ),
)
"""Options that say what is read, for every verb that reads a corpus with students."""
_MOST_WORDS = 20_000
"""Of a document; no student reads so far, and books need not be refused."""


def run(
    view: View,
    student: str | None,
    model: str | None,
    out: str | None,
    keep: Sequence[str],
    no_text: bool,
    corpus: str | None,
    text: Sequence[str],
    bad_rows: Literal["stop", "refuse"],
) -> int:
    """Predict the corpus and say what came of it."""
    if model is not None and student is not None:
        raise SettingsError("predict: give either --student or --model")
    where = model_folder(model) if model is not None else student_of_run(view, student)
    reading = reading_of(view, corpus, text, bad_rows, keep, not no_text, own=model is None)
    labels = where.labels()
    name = where.key.removeprefix("students/")
    folder = open_store(out, base()) if out is not None else kept(view, name, where, reading)
    report = predicted(view, where, reading, folder, name)
    for label in labels:
        share = report.counts[label] / report.rows
        click.echo(f"{report.counts[label]:>12,}  {share:6.1%}  {label}")
    view.progress.say(f"Predict: {report.rows:,} rows in {folder.url}/data")
    return 0


def predicted(view: View, student: StudentPlace, reading: Reading, out: Store, name: str) -> CorpusReport:
    """Classify a corpus into a folder, or find that done, and tell how far it is."""
    check_shared(out)
    report = predict_corpus(student, reading, out, _telling(view, name))
    if report.predicted:
        rate = report.predicted / max(report.seconds, 1e-9)
        view.progress.say(f"{name}: {report.predicted:,} rows, {rate:,.0f} rows/s")
    if report.refused:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(report.refused.items()))
        view.progress.say(f"{name}: left out {counts}")
    return report


def student_of_run(view: View, name: str | None) -> StudentPlace:
    """Return a student of the recipe's run, by default its first; SettingsError names those there are."""
    run = view.root.within(view.recipe.run)
    first = next((each.name for each in view.recipe.students), None)
    return student_in(run, name or (first if first in students_in(run) else None), "--student")


def student_in(run: Store, name: str | None, option: str) -> StudentPlace:
    """Return a student of a run, which may go unnamed if it is the only one."""
    found = students_in(run)
    if not found:
        raise SettingsError(f"{option}: run {run.url} holds no students; run `nightshift train` first")
    chosen = name if name is not None else found[0] if len(found) == 1 else None
    if chosen not in found:
        which = f"has no student {name!r}" if name is not None else "has several students"
        raise SettingsError(f"{option}: run {run.url} {which}; there are {', '.join(found)}")
    return StudentPlace(run, f"students/{chosen}")


def model_folder(url: str) -> StudentPlace:
    """Return the classifier in a folder, local or of an object store."""
    parent, _, name = url.rstrip("/").rpartition("/")
    if "://" in url:
        return StudentPlace(place(parent), name)
    folder = (base() / Path(url).expanduser()).absolute()
    return StudentPlace(LocalStore(folder.parent), folder.name)


def reading_of(
    view: View,
    corpus: str | None,
    text: Sequence[str],
    bad_rows: Literal["stop", "refuse"],
    keep: Sequence[str],
    keep_text: bool,
    own: bool,
) -> Reading:
    """Return what is read, looked at in seconds; own says that it is for the student of the recipe's task."""
    task = view.task.settings
    others = {name: task.columns.get(name, name) for name in task.fields if name != "text"} if own else {}
    settings = view.recipe.corpus
    if corpus == "":
        raise SettingsError("--corpus: is empty; give a file or folder")
    if corpus is not None:
        columns = tuple(text) or (task.columns.get("text", "text") if own else "text",)
        path = corpus if "://" in corpus else str(base() / Path(corpus).expanduser())
        settings = CorpusSettings(path=path, text=columns, title=None, bad_rows=bad_rows)
    elif text or settings is None:
        raise SettingsError("--corpus: give a file or folder to read; the recipe's corpus takes no --text")
    kept = tuple(dict.fromkeys([*settings.metadata, *others.values(), *keep]))
    changes = {"metadata": kept, "long": "truncate", "tokens": _MOST_WORDS}
    settings = settings.model_copy(update=changes)
    check_corpus(settings)
    return Reading(settings, keep_text, task if others else None, others)


def kept(view: View, name: str, student: StudentPlace, reading: Reading) -> Store:
    """Return the folder of the store where predictions of this student for this corpus are kept."""
    hashed = digest(identity_of(reading, student.revision()))[:12]
    return view.root.within(f"predictions/{name.replace('/', '-')}-{hashed}")


def _telling(view: View, name: str) -> Callable[[int, int, int], None]:
    """Return what shows the progress, with the rate since the first rows that this call did."""
    began: list[tuple[float, int]] = []

    def show(rows: int, splits: int, total: int) -> None:
        now = time.monotonic()
        began[:] = began or [(now, rows)]
        since, before = began[0]
        rate = f", {(rows - before) / (now - since):,.0f} rows/s" if rows > before and now > since else ""
        view.progress.live(
            "predict",
            f"{name}: {rows:,} rows{rate}, {splits}/{total} splits of the corpus",
            rows=rows,
            splits=splits,
            total=total,
        )

    return show


def base() -> Path:
    """Return the folder that relative places start from."""
    # A job's working directory is a copy that goes with the job: what is kept has to lie elsewhere.
    return Path.home() if in_job() else Path.cwd()


main = job(
    "predict",
    run,
    click.Option(["--student"], metavar="NAME", help="Student of the run. [default: the first]"),
    click.Option(["--model"], metavar="FOLDER", help="Another classifier, saved by save_pretrained."),
    *CORPUS_OPTIONS,
    click.Option(
        ["--out"], metavar="FOLDER", help="Local or s3://. [default: predictions/NAME-HASH in the store]"
    ),
    click.Option(
        ["--keep"], multiple=True, metavar="COLUMN", help="Column to keep, as meta:COLUMN; repeatable."
    ),
    click.Option(["--no-text"], is_flag=True, help="Leave the texts out."),
    owns=False,
)

if __name__ == "__main__":
    main()
