"""However files are cut, the same documents come out, in the same order."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import DataError
from retrieval.reading.counting import counter_of
from retrieval.reading.files import corpus_files
from retrieval.reading.splits import Piece, cut_splits
from retrieval.reading.stream import Read, Refused, read_pieces
from retrieval.settings import CorpusSettings

LINE = st.one_of(
    st.text(max_size=40).map(lambda text: json.dumps({"text": f"x{text}"}).encode()),
    st.text(max_size=40).map(lambda text: json.dumps({"text": f"x{text}"}, ensure_ascii=False).encode()),
    st.sampled_from([b"", b"  ", b"broken", b'{"text": "\xff"}', b'{"text": " "}', b'{"body": 1}']),
)


def corpus(path: Path, **values: Any) -> CorpusSettings:
    return CorpusSettings(path=str(path), bad_rows="refuse", **values)


def read(pieces: list[Piece], settings: CorpusSettings) -> list[object]:
    """Return documents and refusals with their places, in two lists, as one reading gives them."""
    found = list(read_pieces(pieces, settings, counter_of(None)))
    documents: list[object] = [(each.document, str(each.place)) for each in found if isinstance(each, Read)]
    return [documents, [each for each in found if isinstance(each, Refused)]]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(LINE, max_size=12),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 300),
)
def test_jsonl_cut_anywhere_gives_the_same_rows_and_line_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    content: list[bytes],
    end: bytes,
    ended: bool,
    marked: bool,
    target: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes((b"\xef\xbb\xbf" if marked else b"") + end.join(content) + (end if ended else b""))
    chosen = corpus(path)
    splits = cut_splits(corpus_files(chosen), target)
    assert len(splits) >= path.stat().st_size // target
    pieces = [piece for split in splits for piece in split]
    assert read(pieces, chosen) == read([Piece(str(path), "jsonl")], chosen)


@pytest.mark.parametrize("target", [1, 3_000, 20_000, 1 << 30])
def test_parquet_is_cut_by_row_groups(tmp_path: Path, target: int) -> None:
    rows = [{"text": f"Text {n} {n**9}" if n % 7 else " ", "other": n} for n in range(2000)]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=100)
    chosen = corpus(path)
    splits = cut_splits(corpus_files(chosen), target)
    assert len(splits) == {1: 20, 1 << 30: 1}.get(target, len(splits))
    pieces = [piece for split in splits for piece in split]
    assert read(pieces, chosen) == read([Piece(str(path), "parquet")], chosen)
    stop = chosen.model_copy(update={"bad_rows": "stop"})
    if target == 1:
        with pytest.raises(DataError, match=r"a\.parquet:1905: 'text' must"):
            read([pieces[-1]], stop)


def test_small_files_share_a_split_and_files_keep_their_order(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03d}.jsonl").write_text(json.dumps({"text": f"t{number}"}) + "\n")
    chosen = corpus(tmp_path)
    files = corpus_files(chosen)
    for target, most in ((64 << 20, 1), (1 << 20, 19), (100, 300)):
        splits = cut_splits(files, target)
        assert len(splits) == most
        assert cut_splits(files, target) == splits
        assert [piece.url for split in splits for piece in split] == [file.url for file in files]


def test_packed_files_stay_whole(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n' * 1000))
    (tmp_path / "b.csv").write_text("text\n" + '"a\nb"\n' * 1000)
    assert cut_splits(corpus_files(corpus(tmp_path)), 10) == [
        (Piece(str(tmp_path / "a.jsonl.gz"), "jsonl"),),
        (Piece(str(tmp_path / "b.csv"), "csv"),),
    ]


def test_far_into_a_large_file_rows_are_numbered_from_a_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retrieval.reading.stream._COUNTED_BYTES", 10)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\nbroken\n')
    ((_, (refused,)), stop) = (read([Piece(str(path), "jsonl", 14)], corpus(path)), corpus(path, title=None))
    assert refused.place == f"{path}@14:2"  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"a\.jsonl:3: is not a JSON object"):
        read([Piece(str(path), "jsonl", 14)], stop.model_copy(update={"bad_rows": "stop"}))
