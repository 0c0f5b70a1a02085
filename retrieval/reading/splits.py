"""Cutting the files of a corpus into splits: what one task reads."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from retrieval.reading.records import CorpusFile, Piece
from retrieval.reading.registry import formats

__all__ = ["Piece", "Split", "cut_splits"]

Split = tuple[Piece, ...]

TARGET_BYTES = 64 << 20
_LEAST_BYTES = 64 << 10
"""What a small file counts as: opening a file takes time too."""
_THREADS = 16


def cut_splits(files: Sequence[CorpusFile], target_bytes: int = TARGET_BYTES) -> list[Split]:
    """Cut files into splits of about target_bytes, in reading order; the same for the same files.

    Plain JSONL is cut by bytes and Parquet by row groups; others stay whole; small ones share a split.
    """
    splits: list[Split] = []
    held: list[Piece] = []
    weight = 0
    with ThreadPoolExecutor(_THREADS) as threads:
        for pieces in threads.map(lambda file: _cut(file, target_bytes), files):
            for piece, size in pieces:
                if held and weight + size > target_bytes:
                    splits.append(tuple(held))
                    held, weight = [], 0
                held.append(piece)
                weight += max(size, min(_LEAST_BYTES, target_bytes))
    return [*splits, tuple(held)] if held else splits


def _cut(file: CorpusFile, target_bytes: int) -> list[tuple[Piece, int]]:
    cuts = formats()[file.format].cut(file, target_bytes)
    return [(Piece(file.url, file.format, start, stop), size) for start, stop, size in cuts]
