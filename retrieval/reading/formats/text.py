"""Text files: one document each. The column `text` holds it; `file` holds the file's name."""

from collections.abc import Sequence

from cluster.jsonl import unpacked
from retrieval.reading.places import open_file
from retrieval.reading.records import Format, Piece, Refusal, Rows, row_text

_MOST_BYTES = 64 << 20


def _rows(piece: Piece, columns: Sequence[str]) -> Rows:
    with open_file(piece.url) as file, unpacked(file, piece.url) as data:
        content = data.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        message = "the file has over 64 MiB; cut it into passages or remove it"
        yield 0, Refusal("too_long", message, row_text(content))
        return
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield 0, Refusal("encoding", f"is not UTF-8 text ({error.reason}); mend the file", row_text(content))
        return
    yield 0, {"text": text, "file": piece.url.rpartition("/")[2]}


FORMAT = Format("text", (".txt", ".txt.gz", ".txt.zst"), _rows)
