"""The Arrow files of a dataset that Hugging Face's `save_to_disk` wrote."""

from collections.abc import Sequence

import pyarrow as pa

from retrieval.reading.formats.parquet import batch_rows
from retrieval.reading.places import open_file
from retrieval.reading.records import Format, Piece, Rows


def _rows(piece: Piece, columns: Sequence[str]) -> Rows:
    number = 0
    with open_file(piece.url) as file, pa.ipc.open_stream(pa.PythonFile(file, "r")) as stream:
        names = stream.schema.names
        wanted = list(dict.fromkeys(columns)) if set(names).issuperset(columns) else names
        for batch in stream:
            for row in batch_rows(batch.select(wanted)):
                number += 1
                yield number, row


FORMAT = Format(
    "arrow", (".arrow",), _rows, damaged="is not a readable Arrow file ({reason}); save the dataset anew"
)
