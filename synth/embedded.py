"""Vectors of a run's accepted rows, kept in `curation/<encoder>/` of its folder and made once.

`documents/` holds texts that wait to be embedded; of those that are, `vectors/` holds the vectors and `rows/`
whose they are. A row is known by its id and the hash of its text, so what is kept can never be another's.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import RunError
from cluster.ledger import read_ledger
from cluster.models import resolve_model
from cluster.settings import digest
from cluster.storage import Store
from retrieval.documents import DOCUMENT_SCHEMA
from retrieval.embedding import embed
from retrieval.layout import Part
from retrieval.settings import EncoderSettings
from retrieval.tables import read_table, write_table
from retrieval.vectors import map_vectors
from synth.semantic import HalfVectors, Numbers

PART_ROWS = 2048
"""Rows embedded and committed together: what a crash can cost."""
_MAPPED = 64
"""Files of vectors that are open at a time."""
Progress = Callable[[str, int, int], None]


class RowVectors:
    """The vectors of all rows that were embedded; a place is a row's number over all parts.

    Memory: some 120 bytes a row for finding it; vectors are mapped from files.
    """

    def __init__(self, folder: Store) -> None:
        vectors = set(folder.list("vectors"))
        keys = [pa.array([], pa.string())]
        self._parts: list[Part] = []
        for key in folder.list("rows"):
            names = read_table(folder, key, ["id"])["id"].combine_chunks()
            part = Part(_name(key), len(names))
            if part.vectors_key in vectors:
                self._parts.append(part)
                keys.append(names)
        self._keys = pa.concat_arrays(keys)
        self._starts = np.cumsum([0, *(part.rows for part in self._parts)])
        self._map = lru_cache(_MAPPED)(lambda number: map_vectors(folder, self._parts[number]))

    @property
    def dimension(self) -> int:
        return int(self._map(0).shape[1]) if self._parts else 0

    def find(self, keys: pa.Array) -> Numbers:
        """Return the places of rows, -1 for those that have no vector."""
        return pc.fill_null(pc.index_in(keys, value_set=self._keys), -1).to_numpy().astype(np.int64)

    def locate(self, rows: pa.Table) -> Numbers:
        places = self.find(_keys(rows["row_id"], rows["text_hash"]))
        if (places < 0).any():
            row = rows["row_id"][int(np.argmax(places < 0))]
            raise RunError(f"ledger: row {row} is not embedded; run the same command again")
        return places

    def take(self, places: Numbers) -> HalfVectors:
        taken = np.empty((len(places), self.dimension), np.float16)
        owners = np.searchsorted(self._starts, places, side="right") - 1
        for number in np.unique(owners).tolist():
            mine = owners == number
            taken[mine] = self._map(number)[places[mine] - self._starts[number]]
        return taken


def embed_accepted(
    store: Store, fields: Sequence[str], encoder: EncoderSettings, progress: Progress
) -> RowVectors:
    """Embed the accepted rows of a ledger that have no vectors yet, over the cluster; return all vectors.

    A row's vector is that of its fields joined by line breaks, as far as the encoder reads. The caller has
    connected to Ray.
    """
    steady = _steady(encoder)
    folder = store.within(f"curation/{_fingerprint(steady)}")
    _finish(folder, steady, progress)
    vectors = RowVectors(folder)
    if _set_out(store, fields, folder, vectors):
        _finish(folder, steady, progress)
        vectors = RowVectors(folder)
    return vectors


def _steady(encoder: EncoderSettings) -> EncoderSettings:
    """Return settings under which no text's vector depends on other texts, unless they ask for batches."""
    # A batch is at least one text: with one token it is never more. In bfloat16 a GPU and a CPU differ much.
    batch = encoder.batch_tokens or 1
    return encoder.model_copy(
        update={"batch_tokens": batch, "dtype": "float32" if encoder.dtype == "auto" else encoder.dtype}
    )


def _fingerprint(encoder: EncoderSettings) -> str:
    reads = encoder.model_dump(mode="json", include={"preset", "max_tokens", "dtype"})
    return digest([resolve_model(encoder.model).revision, reads])[:16]


def _set_out(store: Store, fields: Sequence[str], folder: Store, vectors: RowVectors) -> bool:
    """Write the texts of rows without vectors to be embedded, in parts; say whether there are any."""
    last = max((int(_name(key)) for key in folder.list("rows")), default=-1)
    held: list[pa.Table] = []
    wrote = False
    for table in _missing(store, fields, vectors):
        held.append(table)
        while sum(each.num_rows for each in held) >= PART_ROWS:
            whole = pa.concat_tables(held)
            last, wrote, held = last + 1, True, [whole.slice(PART_ROWS)]
            write_table(folder, _waiting(f"{last:06d}"), whole.slice(0, PART_ROWS))
    if sum(each.num_rows for each in held):
        write_table(folder, _waiting(f"{last + 1:06d}"), pa.concat_tables(held))
        wrote = True
    return wrote


def _missing(store: Store, fields: Sequence[str], vectors: RowVectors) -> Iterator[pa.Table]:
    """Yield the rows that have no vectors as documents; texts are read only when there are such rows."""
    narrow = ("row_id", "status", "text_hash")
    if not any(len(_lacking(table, vectors)) for table in read_ledger(store, narrow)):
        return
    for table in read_ledger(store, (*narrow, *fields)):
        rows = _lacking(table, vectors)
        names = [pc.fill_null(rows[name], "") for name in fields]
        columns = {
            "id": _keys(rows["row_id"], rows["text_hash"]),
            "text": pc.binary_join_element_wise(*names, "\n"),
            "title": pa.nulls(rows.num_rows, pa.string()),
            "tokens": pa.nulls(rows.num_rows, pa.int32()),
        }
        yield pa.table(columns, schema=DOCUMENT_SCHEMA)


def _lacking(table: pa.Table, vectors: RowVectors) -> pa.Table:
    rows = table.filter(pc.field("status") == "accepted").combine_chunks()
    places = vectors.find(_keys(rows["row_id"], rows["text_hash"]))
    return rows.filter(pa.array(places < 0))


def _finish(folder: Store, encoder: EncoderSettings, progress: Progress) -> None:
    """Embed what waits, and put down whose vectors they are."""
    waiting = [Part(_name(key), _rows(folder, key)) for key in folder.list("documents")]
    if not waiting:
        return
    embed(folder, waiting, encoder, progress)
    for part in waiting:
        ids = read_table(folder, part.documents_key, ["id"])
        write_table(folder, f"rows/part-{part.name}.parquet", ids)
        folder.delete(part.documents_key)


def _rows(folder: Store, key: str) -> int:
    with folder.open(key) as file:
        return int(pq.read_metadata(file).num_rows)


def _waiting(name: str) -> str:
    return f"documents/part-{name}.parquet"


def _name(key: str) -> str:
    return key.rpartition("/part-")[2].partition(".")[0]


def _keys(row_ids: pa.Array, text_hashes: pa.Array) -> pa.Array:
    """Return what rows are known by."""
    return pc.binary_join_element_wise(row_ids, pc.cast(text_hashes, pa.string()), ":")
