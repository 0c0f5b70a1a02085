"""Words of a shard for BM25: which documents have each, and how often, in NumPy files mapped into memory.

What depends on the whole index, how rare a word is and how long documents are, is put in when a query comes:
so the scores of a sharded index are those of one index, and documents can be added.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.errors import StorageError
from cluster.storage import Store
from retrieval.documents import DOCUMENT_SCHEMA, from_table
from retrieval.filtering import allowed_rows
from retrieval.layout import RowNumbers, Shard
from retrieval.merging import merge
from retrieval.rank import NO_ROW, Filter, Scores
from retrieval.tables import read_table

K1, B = 1.5, 0.75
"""Saturation and length normalisation: the defaults of bm25s."""
_OPEN_SHARDS = 64

Words = npt.NDArray[np.uint64]
"""Hashes of stems, 8 bytes each."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much text there is: documents and words."""

    documents: int
    words: int


@dataclass(frozen=True, slots=True)
class Question:
    """A query: its distinct words, ascending, and the weight of each."""

    words: Words
    weights: npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Postings:
    """words ascend; documents and counts (how often each has it) of word n lie from starts[n] to its next."""

    words: Words
    starts: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int32]
    counts: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.int32]


def folder_of(shard: Shard) -> str:
    """Return the folder of a shard's words, named after its parts."""
    return f"bm25/{shard.parts[0].name}-{shard.parts[-1].name}"


def counts_key(shard: Shard) -> str:
    """Key of what is written last."""
    return f"{folder_of(shard)}/counts.json"


def read_counts(store: Store, shard: Shard) -> Counts:
    """Return how much text a shard holds."""
    try:
        return Counts(**json.loads(store.read(counts_key(shard))))
    except (ValueError, TypeError) as error:
        raise _damaged(store, shard, error) from error


def words_of(texts: Sequence[str]) -> list[Words]:
    """Return the words of each text, repeated as often as they occur.

    They are those of bm25s: letters and digits, two or more, lower case, without English stop words, stemmed.
    """
    import bm25s

    found = bm25s.tokenize(list(texts), stopwords="en", stemmer=_stemmer(), show_progress=False)
    hashes = np.zeros(len(found.vocab), dtype=np.uint64)
    for word, number in found.vocab.items():
        hashes[number] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest())
    # Where no text has a word, bm25s puts an empty one into each.
    empty = found.vocab.get("", -1)
    return [hashes[[number for number in ids if number != empty]] for ids in found.ids]


def build_postings(store: Store, shard: Shard) -> Counts:
    """Count the words of a shard's documents, part by part, and write them."""
    words, documents, counts, lengths = [], [], [], []
    first = 0
    for part in shard.parts:
        table = read_table(store, part.documents_key, DOCUMENT_SCHEMA.names)
        for number, found in enumerate(words_of([each.titled_text for each in from_table(table)]), first):
            distinct, times = np.unique(found, return_counts=True)
            words.append(distinct)
            documents.append(np.full(len(distinct), number, dtype=np.int32))
            counts.append(np.minimum(times, np.iinfo(np.uint16).max).astype(np.uint16))
            lengths.append(len(found))
        first += part.rows
    every = np.concatenate(words)
    order = np.argsort(every, kind="stable")
    distinct, starts = np.unique(every[order], return_index=True)
    arrays = {
        "words": distinct,
        "starts": np.append(starts, len(every)),
        "documents": np.concatenate(documents)[order],
        "counts": np.concatenate(counts)[order],
        "lengths": np.array(lengths, dtype=np.int32),
    }
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        store.write(f"{folder_of(shard)}/{name}.npy", buffer.getvalue())
    total = Counts(first, int(arrays["lengths"].sum()))
    content = {"documents": total.documents, "words": total.words}
    store.write(counts_key(shard), json.dumps(content).encode())
    return total


def frequencies(store: Store, shards: Sequence[Shard], words: Words, threads: int = 1) -> RowNumbers:
    """Return in how many documents of some shards each word is."""
    total = np.zeros(len(words), dtype=np.int64)
    for shard in shards:
        postings = _open(store, shard)
        places, there = _find(postings, words)
        total[there] += np.diff(postings.starts)[places[there]]
    return total


def best_matches(
    store: Store,
    shards: Sequence[Shard],
    questions: Sequence[Question],
    mean_length: float,
    top_k: int,
    allowed: Filter,
    threads: int = 1,
) -> tuple[Scores, RowNumbers]:
    """Return scores and rows, (questions, top_k), best first, padded, of documents that share a word."""
    best = (
        np.full((len(questions), top_k), -np.inf, dtype=np.float32),
        np.full((len(questions), top_k), NO_ROW, dtype=np.int64),
    )
    for shard in shards:
        postings, mask = _open(store, shard), allowed_rows(store, shard, allowed)
        norms = (K1 * (1 - B + B * postings.lengths / mean_length)).astype(np.float32)
        for place, question in enumerate(questions):
            scores = _score(postings, norms, question)
            rows = np.flatnonzero(scores if mask is None else scores * mask)
            if len(rows) > top_k:
                least = np.partition(scores[rows], -top_k)[-top_k]
                rows = rows[scores[rows] >= least]
            found = scores[rows][None], (rows + shard.first_row)[None]
            mine = best[0][place : place + 1], best[1][place : place + 1]
            best[0][place : place + 1], best[1][place : place + 1] = merge([mine, found], top_k)
    return best


def _score(
    postings: _Postings, norms: npt.NDArray[np.float32], question: Question
) -> npt.NDArray[np.float32]:
    scores = np.zeros(len(norms), dtype=np.float32)
    places, there = _find(postings, question.words)
    for place, weight in zip(places[there].tolist(), question.weights[there], strict=True):
        held = slice(postings.starts[place], postings.starts[place + 1])
        documents, counts = postings.documents[held], postings.counts[held].astype(np.float32)
        scores[documents] += weight * (counts / (norms[documents] + counts))
    return scores


def _find(postings: _Postings, words: Words) -> tuple[RowNumbers, npt.NDArray[np.bool_]]:
    """Return the place of each word, and whether it is there at all."""
    if not len(postings.words):
        return np.zeros(len(words), dtype=np.int64), np.zeros(len(words), dtype=np.bool_)
    places = np.minimum(np.searchsorted(postings.words, words), len(postings.words) - 1)
    return places, postings.words[places] == words


def _open(store: Store, shard: Shard) -> _Postings:
    try:
        postings = _mapped(str(store.fetch(folder_of(shard))))
    except (ValueError, OSError, EOFError) as error:
        raise _damaged(store, shard, error) from error
    if len(postings.lengths) != shard.rows:
        raise _damaged(store, shard, f"{len(postings.lengths)} documents instead of {shard.rows}")
    return postings


def _damaged(store: Store, shard: Shard, why: object) -> StorageError:
    return StorageError(
        f"{store.url}/{folder_of(shard)}: is damaged ({why}); remove this folder and run `nightshift index`"
    )


@lru_cache(maxsize=_OPEN_SHARDS)
def _mapped(folder: str) -> _Postings:
    names = ("words", "starts", "documents", "counts", "lengths")
    arrays = {name: np.load(f"{folder}/{name}.npy", mmap_mode="r", allow_pickle=False) for name in names}
    return _Postings(**arrays)


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("english")
