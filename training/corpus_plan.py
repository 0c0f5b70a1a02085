"""How a corpus is cut for prediction: into splits that one task reads, and parts with fixed names."""

import json
from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import pyarrow as pa

from cluster.errors import DataError, FingerprintError
from cluster.settings import digest
from cluster.storage import Store
from retrieval.documents import META
from retrieval.reading.counting import Words
from retrieval.reading.files import corpus_files
from retrieval.reading.splits import Piece, Split, cut_splits
from retrieval.reading.stream import Read, read_pieces
from retrieval.settings import CorpusSettings
from synth.task import Task, TaskSettings

PLAN = "plan.json"
DATA = "data"
PART_ROWS = 2048
"""Rows of a part at most: predicted and committed together, what a crash can cost."""
_SMALL_PART_ROWS = 256
_PARTS = 128
"""Parts that a small corpus is to have: of few large ones one actor would have its last alone for long."""
_PART_CHARACTERS = 64 << 20
_EXAMPLES = 3
_LEAST_ROW_BYTES = 32


@dataclass(frozen=True, slots=True)
class Reading:
    """What a student reads of a corpus, and what of it stays beside the predictions.

    The columns in `corpus.metadata` stay. fields names the columns of a task's fields other than the text,
    which are among them.
    """

    corpus: CorpusSettings
    keep_text: bool = True
    task: TaskSettings | None = None
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorpusPlan:
    """How one corpus is cut; identity holds what determines the predictions, to tell what has changed."""

    identity: dict[str, str]
    splits: tuple[Split, ...]
    bytes: int
    part_rows: int

    def most_parts(self) -> int:
        """Return a bound on the number of parts, from the size of the files, which may be compressed."""
        return max(1, -(-self.bytes // (self.part_rows * _LEAST_ROW_BYTES)))


@dataclass(frozen=True, slots=True)
class SplitRead:
    """What was found in a split: parts, rows, and rows that were refused, by reason, with some messages."""

    parts: int
    rows: int
    refused: Mapping[str, int]
    examples: tuple[str, ...]


def identity_of(reading: Reading, student: str) -> dict[str, str]:
    """Return what determines predictions: the student's revision, the files, and what is read of them.

    DataError when there is no file to read.
    """
    files = [[file.url, file.hash, file.format] for file in corpus_files(reading.corpus)]
    how = reading.corpus.model_dump(mode="json", exclude={"path", "refused_share"})
    columns = [how, reading.keep_text, dict(reading.fields)]
    return {"student": student, "corpus": digest(files), "reading": digest(columns)}


def _part_rows(size: int) -> int:
    """Return the rows of a part for files of so many bytes: fewer where there would be few parts."""
    return min(PART_ROWS, max(_SMALL_PART_ROWS, size // (_LEAST_ROW_BYTES * _PARTS)))


def plan_corpus(out: Store, reading: Reading, student: str) -> CorpusPlan:
    """Plan the prediction of a corpus, or go on with the plan that lies in the folder.

    student is the revision of the student. FingerprintError when the folder holds predictions by another
    student, or of another corpus.
    """
    identity = identity_of(reading, student)
    files = corpus_files(reading.corpus)
    size = sum(file.size for file in files)
    plan = CorpusPlan(identity, tuple(cut_splits(files)), size, _part_rows(size))
    if out.create(PLAN, json.dumps(asdict(plan)).encode()):
        return plan
    data = json.loads(out.read(PLAN))
    splits = tuple(tuple(Piece(**piece) for piece in split) for split in data["splits"])
    earlier = CorpusPlan(data["identity"], splits, data["bytes"], data["part_rows"])
    changed = [name for name, value in identity.items() if earlier.identity.get(name) != value]
    if changed:
        raise FingerprintError(
            f"{out.url}: holds predictions with another {' and '.join(changed)}; "
            "give another folder, or remove it"
        )
    return earlier


def part_key(split: int, number: int) -> str:
    """Return the key of a part of predictions."""
    return f"{DATA}/part-{split:05d}-{number:05d}.parquet"


def split_read(out: Store, split: int) -> SplitRead | None:
    """Return what was found in a split; None when it has not been read to its end."""
    if not out.exists(_marker(split)):
        return None
    data = json.loads(out.read(_marker(split)))
    return SplitRead(data["parts"], data["rows"], data["refused"], tuple(data["examples"]))


def read_parts(
    out: Store, plan: CorpusPlan, split: int, reading: Reading, done: frozenset[str]
) -> Iterator[tuple[str, pa.Table]]:
    """Yield (key, rows) of each part of a split that is not done, then leave what was found in the folder.

    Rows have the columns id, `text` as the student reads it, and the metadata. Reading a split again gives
    the same parts. DataError names file, row and remedy.
    """
    held: list[Read] = []
    characters = parts = rows = 0
    tally: Tally[str] = Tally()
    examples: list[str] = []
    for outcome in read_pieces(plan.splits[split], reading.corpus, Words()):
        if not isinstance(outcome, Read):
            tally[outcome.refusal.reason] += 1
            examples += [outcome.message] if len(examples) < _EXAMPLES else []
            continue
        held.append(outcome)
        rows += 1
        characters += len(outcome.document.text)
        if len(held) == plan.part_rows or characters >= _PART_CHARACTERS:
            if (key := part_key(split, parts)) not in done:
                yield key, _table(held, reading)
            held, characters, parts = [], 0, parts + 1
    if held:
        if (key := part_key(split, parts)) not in done:
            yield key, _table(held, reading)
        parts += 1
    found = SplitRead(parts, rows, dict(tally), tuple(examples))
    out.write(_marker(split), json.dumps(asdict(found)).encode())


def empty_part(reading: Reading) -> pa.Table:
    """Return a part without rows."""
    return _table([], reading)


def _marker(split: int) -> str:
    return f"splits/{split:05d}.json"


def _table(held: list[Read], reading: Reading) -> pa.Table:
    columns: dict[str, list[str | None]] = {
        "id": [read.document.id for read in held],
        "text": [_as_read(read, reading) for read in held],
    }
    for name in reading.corpus.metadata:
        columns[f"{META}{name}"] = [read.document.metadata.get(name) for read in held]
    return pa.table(columns, pa.schema([(name, pa.string()) for name in columns]))


def _as_read(read: Read, reading: Reading) -> str:
    """Return a document as the student reads it: title and text, or the fields of its task."""
    document = read.document
    if not reading.fields or reading.task is None:
        return document.titled_text
    values = {name: document.metadata.get(column, "") for name, column in reading.fields.items()}
    lacking = next((reading.fields[name] for name, value in values.items() if not value.strip()), None)
    if lacking is not None:
        raise DataError(
            f"{read.place}: {lacking!r} must be a text that is not empty; the student reads it too"
        )
    return Task(reading.task, ()).as_one_text({"text": document.text, **values})
