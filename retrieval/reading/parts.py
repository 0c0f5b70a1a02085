"""What reading writes: parts of documents, and the rows that were refused."""

from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.storage import Store
from retrieval.documents import to_table
from retrieval.layout import Part
from retrieval.reading.stream import Read, Refused
from retrieval.settings import CorpusSettings
from retrieval.tables import write_table

_PART_CHARACTERS = 64 << 20
_HELD_REFUSALS = 256
_REFUSED = pa.schema([("place", pa.string()), ("reason", pa.string()), ("row", pa.string())])


class PartWriter:
    """Holds documents until they make a part; very long ones make smaller parts."""

    def __init__(self, store: Store, split: int, rows: int, corpus: CorpusSettings) -> None:
        self.written: list[tuple[str, int]] = []
        self._store = store
        self._split = split
        self._rows = rows
        self._corpus = corpus
        self._held: list[Read] = []
        self._characters = 0

    def add(self, read: Read) -> None:
        """Take a document, and write the part that it completes."""
        self._held.append(read)
        self._characters += len(read.document.text)
        if len(self._held) == self._rows or self._characters >= _PART_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is held as a part."""
        if not self._held:
            return
        part = Part(f"{self._split:05d}-{len(self.written):05d}", len(self._held))
        table = to_table([read.document for read in self._held], self._corpus.metadata)
        if self._corpus.key is not None:
            table = table.append_column("key", pa.array([read.key for read in self._held], pa.string()))
        write_table(self._store, part.documents_key, table)
        self.written.append((part.name, part.rows))
        self._held, self._characters = [], 0


class RefusedWriter:
    """Keeps refused rows in a file beside, and puts it into the store at the end, if there are any."""

    def __init__(self, store: Store, split: int) -> None:
        self._store = store
        self._key = f"refused/part-{split:05d}.parquet"
        self._held: list[Refused] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "RefusedWriter":
        self._folder = TemporaryDirectory(prefix="nightshift-refused-")
        self._path = Path(self._folder.name) / "refused.parquet"
        return self

    def add(self, refused: Refused) -> None:
        """Take a refused row."""
        self._held.append(refused)
        if len(self._held) == _HELD_REFUSALS:
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and self._held:
                self._write()
            if self._writer is not None:
                self._writer.close()
                if kind is None:
                    self._store.upload(self._key, self._path)
        finally:
            self._folder.cleanup()

    def _write(self) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, _REFUSED, compression="zstd")
        rows = [
            {"place": each.place, "reason": each.refusal.reason, "row": each.refusal.row}
            for each in self._held
        ]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=_REFUSED))
        self._held = []
