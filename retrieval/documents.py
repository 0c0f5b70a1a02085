"""Documents and hits, and how documents lie in Arrow."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from cluster.settings import digest


@dataclass(frozen=True, slots=True)
class Document:
    """One unit of the corpus; its id is a hash of title and text. Build it with `make_document`."""

    id: str
    text: str
    title: str | None = None

    @property
    def titled_text(self) -> str:
        """What an encoder reads: the title, if any, before the text."""
        return f"{self.title} {self.text}" if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved document with its rank, from 1, and its score, the higher the nearer."""

    document: Document
    rank: int
    score: float


DOCUMENT_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("title", pa.string())])


def make_document(text: str, title: str | None = None) -> Document:
    """Build a document; the id has 16 hexadecimal characters, the same for the same content."""
    return Document(id=digest([title, text])[:16], text=text, title=title)


def to_table(documents: Sequence[Document]) -> pa.Table:
    """Put documents into an Arrow table of DOCUMENT_SCHEMA."""
    columns = [[getattr(document, name) for document in documents] for name in DOCUMENT_SCHEMA.names]
    return pa.table(columns, schema=DOCUMENT_SCHEMA)


def from_table(table: pa.Table) -> list[Document]:
    """Take documents out of an Arrow table of DOCUMENT_SCHEMA."""
    return [Document(**row) for row in table.select(DOCUMENT_SCHEMA.names).to_pylist()]
