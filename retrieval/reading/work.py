"""Reading as it is done: a split into the index folder, a corpus in this process, a first look."""

import json
import os
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.documents import Document
from retrieval.reading.counting import counter_of
from retrieval.reading.files import unhashed_files
from retrieval.reading.parts import PartWriter, RefusedWriter
from retrieval.reading.records import Piece
from retrieval.reading.splits import Split
from retrieval.reading.stream import Read, Refused, read_pieces
from retrieval.settings import CorpusSettings, EncoderSettings

_CHECKED_ROWS = 10_000
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class SplitResult:
    """What became of a split: parts as (name, rows), refused rows by reason, the first of them."""

    parts: tuple[tuple[str, int], ...]
    refused: Mapping[str, int]
    examples: tuple[str, ...]


def read_split(
    store: Store,
    number: int,
    split: Split,
    corpus: CorpusSettings,
    encoder: EncoderSettings | None,
    partition_rows: int,
) -> SplitResult:
    """Read a split into parts of at most partition_rows documents; duplicates stay in.

    Writes `documents/part-SSSSS-PPPPP.parquet`, `refused/part-SSSSS.parquet` where rows were refused, and
    last `splits/SSSSS.json`. Reading it twice writes the same. Errors: DataError in mode stop.
    """
    # One core is what the task was given; the tokenizer would take all.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    parts = PartWriter(store, number, partition_rows, corpus)
    tally: Tally[str] = Tally()
    examples: list[str] = []
    with RefusedWriter(store, number) as refusals:
        for outcome in read_pieces(split, corpus, counter_of(encoder)):
            if isinstance(outcome, Read):
                parts.add(outcome)
                continue
            refusals.add(outcome)
            tally[outcome.refusal.reason] += 1
            if len(examples) < _EXAMPLES:
                examples.append(outcome.message)
    parts.flush()
    result = SplitResult(tuple(parts.written), dict(tally), tuple(examples))
    store.write(f"splits/{number:05d}.json", json.dumps(asdict(result)).encode())
    return result


def read_documents(settings: CorpusSettings, encoder: EncoderSettings | None = None) -> Iterator[Document]:
    """Yield the documents once each, in reading order; DataError names file, row and remedy."""
    nothing = True
    for outcome in _unique(read_pieces(_whole_files(settings), settings, counter_of(encoder)), settings):
        if isinstance(outcome, Read):
            nothing = False
            yield outcome.document
    if nothing:
        raise DataError(f"corpus {settings.path}: holds no documents; give a file with rows")


def check_corpus(settings: CorpusSettings) -> None:
    """Look at the files and the first rows, in seconds; DataError names file, row and remedy."""
    rows = read_pieces(_whole_files(settings), settings, counter_of(None))
    first = ""
    usable, seen, looked = 0, set[str](), 0
    for outcome in islice(_unique(rows, settings), _CHECKED_ROWS):
        looked += 1
        if isinstance(outcome, Read):
            usable += 1
            seen |= outcome.document.metadata.keys()
        first = first or (outcome.message if isinstance(outcome, Refused) else "")
    if not usable:
        why = (
            f" in its first {looked:,} rows that can be used: {first}" if first else "; give a file with rows"
        )
        raise DataError(f"corpus {settings.path}: holds no documents{why}")
    unknown = [name for name in settings.metadata if name not in seen]
    if unknown:
        raise DataError(
            f"corpus {settings.path}: no row of the first {looked:,} has a value in column {unknown[0]!r}; "
            "set corpus.metadata"
        )


def _whole_files(settings: CorpusSettings) -> Iterator[Piece]:
    return (Piece(file.url, file.format) for file in unhashed_files(settings))


def _unique(outcomes: Iterable[Read | Refused], settings: CorpusSettings) -> Iterator[Read | Refused]:
    """Drop documents that came before; refuse those whose row has the name of an earlier one."""
    # As numbers, some 64 bytes each: the only thing held that grows with the corpus.
    ids: set[int] = set()
    keys: set[str] = set()
    for outcome in outcomes:
        if isinstance(outcome, Read):
            number = int(outcome.document.id, 16)
            if number in ids:
                continue
            ids.add(number)
            if outcome.key is not None and outcome.key in keys:
                if settings.bad_rows == "stop":
                    raise DataError(
                        f"{outcome.place}: an earlier row with another text has the same {settings.key!r}, "
                        f"{outcome.key!r}; remove one, or set corpus.bad_rows to refuse"
                    )
                continue
            keys |= {outcome.key} if outcome.key is not None else set()
        yield outcome
