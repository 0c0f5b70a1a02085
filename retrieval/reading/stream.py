"""The stream from pieces of files to documents; what cannot be used comes along, or stops it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from cluster.errors import DataError
from retrieval.documents import Document, make_document
from retrieval.reading.chunking import chunks, titled
from retrieval.reading.cleaning import Cleaner, Passage
from retrieval.reading.counting import Counter
from retrieval.reading.damage import DAMAGE, refuse_damage
from retrieval.reading.records import Format, Piece, Refusal, Rows
from retrieval.reading.registry import formats
from retrieval.settings import CorpusSettings

_BATCH_ROWS = 1024
_BATCH_CHARACTERS = 1 << 20
_LONG = 8
"""Characters a token above which a text is cut without being counted first."""
_COUNTED_BYTES = 256 << 20
"""How far into a file a piece may begin for its refused rows to be numbered from the file's beginning."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that was refused, and where it is: `file:row`."""

    place: str
    refusal: Refusal

    @property
    def message(self) -> str:
        """Place, reason and remedy."""
        return f"{self.place}: {self.refusal.message}"


@dataclass(frozen=True, slots=True)
class Read:
    """A document that was read, where, and what its row is called; chunks after the first are numbered."""

    document: Document
    place: "Place"
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A row of a piece; counting its number in the file is left until it is needed."""

    pieces: "_Pieces"
    number: int

    def __str__(self) -> str:
        return self.pieces.place(self.number)


def read_pieces(
    pieces: Iterable[Piece], settings: CorpusSettings, counter: Counter
) -> Iterator[Read | Refused]:
    """Read pieces in order; in mode stop the first row that is refused raises DataError."""
    cleaner = Cleaner(settings)
    held: list[tuple[Passage, Place]] = []
    characters = 0
    for piece in pieces:
        for outcome in _passages(piece, settings, cleaner):
            if isinstance(outcome, Refused):
                yield outcome
                continue
            held.append(outcome)
            characters += len(outcome[0].text)
            if len(held) == _BATCH_ROWS or characters >= _BATCH_CHARACTERS:
                yield from _measured(held, settings, counter)
                held, characters = [], 0
    yield from _measured(held, settings, counter)


def _passages(
    piece: Piece, settings: CorpusSettings, cleaner: Cleaner
) -> Iterator[tuple[Passage, Place] | Refused]:
    format = formats()[piece.format]
    places = _Pieces(piece, format, settings.bad_rows == "stop")
    for number, row in _whole(piece, format, format.rows(piece, cleaner.columns)):
        outcome = row if isinstance(row, Refusal) else cleaner.clean(row)
        if isinstance(outcome, Passage):
            yield outcome, Place(places, number)
            continue
        refused = Refused(places.place(number), outcome)
        if settings.bad_rows == "stop":
            raise DataError(refused.message)
        yield refused


def _whole(piece: Piece, format: Format, rows: Rows) -> Rows:
    """Yield rows; a file that is damaged ends with one refusal for all of it that cannot be read."""
    number = 0
    try:
        for number, row in rows:
            yield number, row
    except DAMAGE as error:
        read = f" after {number:,} rows" if number else ""
        yield 0, refuse_damage(piece.url, format, error, read)


class _Pieces:
    """Says where the rows of a piece are in its file."""

    def __init__(self, piece: Piece, format: Format, exact: bool) -> None:
        self._piece = piece
        self._format = format
        self._exact = exact or piece.start <= _COUNTED_BYTES
        self._before: int | None = None

    def place(self, number: int) -> str:
        """Return `file:row`, or `file@byte:row` with rows from that byte; 0 is the file itself."""
        url = self._piece.url
        if not number:
            return url
        if not self._exact:
            return f"{url}@{self._piece.start}:{number}"
        if self._before is None:
            self._before = self._format.rows_before(self._piece)
        return f"{url}:{self._before + number}"


def _measured(
    held: Sequence[tuple[Passage, Place]], settings: CorpusSettings, counter: Counter
) -> Iterator[Read]:
    """Count the tokens of passages, and cut those that are too long as the settings say."""
    most = settings.tokens * _LONG if settings.long != "keep" else None
    texts = [titled(passage) for passage, _ in held]
    counts = iter(counter.count([text for text in texts if most is None or len(text) <= most]))
    for text, (passage, place) in zip(texts, held, strict=True):
        tokens = next(counts) if most is None or len(text) <= most else None
        if settings.long == "keep" or (tokens is not None and tokens <= settings.tokens):
            yield _read(passage, place, tokens or 0)
            continue
        for number, (chunk, size) in enumerate(chunks(passage, counter, settings.tokens)):
            # Without a number of its own a chunk would pass for a second row of the same name.
            key = f"{chunk.key}#{number}" if number and chunk.key is not None else chunk.key
            yield _read(replace(chunk, key=key), place, size)
            if settings.long == "truncate":
                break


def _read(passage: Passage, place: Place, tokens: int) -> Read:
    document = make_document(passage.text, passage.title, tokens, passage.metadata)
    return Read(document, place, passage.key)
