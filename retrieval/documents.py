"""Documents and hits, and how documents lie in Arrow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from cluster.settings import digest

META = "meta:"
"""What the name of a metadata column begins with in the Parquet parts."""


@dataclass(frozen=True, slots=True)
class Document:
    """One unit of the corpus; its id is a hash of title and text. Build it with `make_document`.

    tokens counts titled_text as the index's encoder sees it, uncut; metadata are texts for filters.
    """

    id: str
    text: str
    title: str | None = None
    tokens: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)

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


DOCUMENT_SCHEMA = pa.schema(
    [("id", pa.string()), ("text", pa.string()), ("title", pa.string()), ("tokens", pa.int32())]
)
"""Columns of every part of documents; metadata columns, named `meta:<name>`, follow."""


def make_document(
    text: str, title: str | None = None, tokens: int = 0, metadata: Mapping[str, str] | None = None
) -> Document:
    """Build a document; the id has 16 hexadecimal characters, the same for the same title and text."""
    return Document(digest([title, text])[:16], text, title, tokens, dict(metadata or {}))


def to_table(documents: Sequence[Document], metadata: Sequence[str] = ()) -> pa.Table:
    """Put documents into an Arrow table: DOCUMENT_SCHEMA, then the named metadata as texts or null."""
    columns = {name: [getattr(document, name) for document in documents] for name in DOCUMENT_SCHEMA.names}
    extra = {f"{META}{name}": [document.metadata.get(name) for document in documents] for name in metadata}
    schema = pa.schema([*DOCUMENT_SCHEMA, *((name, pa.string()) for name in extra)])
    return pa.table(columns | extra, schema=schema)


def from_table(table: pa.Table) -> list[Document]:
    """Take documents out of an Arrow table that `to_table` made."""
    extra = [name for name in table.column_names if name.startswith(META)]
    return [
        Document(
            row["id"],
            row["text"],
            row["title"],
            row["tokens"],
            {name.removeprefix(META): row[name] for name in extra if row[name] is not None},
        )
        for row in table.to_pylist()
    ]
