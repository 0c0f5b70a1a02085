from pathlib import Path

import bm25s
import numpy as np
import pytest
import Stemmer
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import StorageError
from cluster.storage import LocalStore
from retrieval.documents import make_document, to_table
from retrieval.layout import Layout, Part
from retrieval.merging import merge
from retrieval.postings import (
    Question,
    best_matches,
    build_postings,
    counts_key,
    folder_of,
    frequencies,
    read_counts,
    words_of,
)
from retrieval.rank import NO_ROW, Filter
from retrieval.rankers.bm25 import _question, _rarity
from retrieval.tables import write_table

WORDS = ("river", "rivers", "castle", "trumpet", "sorting", "flower", "the", "jazz", "alpine", "of")


def _store(folder: Path, texts: list[str], part_rows: int, shard_parts: int) -> tuple[LocalStore, Layout]:
    store, parts = LocalStore(folder), []
    for number, start in enumerate(range(0, len(texts), part_rows)):
        held = texts[start : start + part_rows]
        parts.append(Part(f"{number:05d}-00000", len(held)))
        write_table(store, parts[-1].documents_key, to_table([make_document(text) for text in held]))
    counts = [len(parts[start : start + shard_parts]) for start in range(0, len(parts), shard_parts)]
    layout = Layout(tuple(parts), tuple(counts))
    for shard in layout.shards:
        build_postings(store, shard)
    return store, layout


def _rank(store: LocalStore, layout: Layout, query: str, top_k: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [read_counts(store, shard) for shard in layout.shards]
    documents, words = sum(each.documents for each in counts), sum(each.words for each in counts)
    (text,) = words_of([query])
    distinct = np.unique(text)
    found = sum(frequencies(store, [shard], distinct) for shard in layout.shards)
    question: Question = _question(text, distinct, _rarity(np.asarray(found), documents))
    mean = words / documents or 1.0
    matches = [best_matches(store, [shard], [question], mean, top_k, Filter()) for shard in layout.shards]
    scores, rows = merge(matches, top_k)
    return scores[0], rows[0]


@settings(deadline=None, max_examples=25)
@given(
    texts=st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), min_size=2, max_size=20),
    query=st.lists(st.sampled_from([*WORDS, "unheard"]), min_size=1, max_size=6),
    part_rows=st.integers(1, 6),
    shard_parts=st.integers(1, 3),
)
def test_shards_score_as_one_index_of_bm25s(
    tmp_path_factory: object, texts: list[list[str]], query: list[str], part_rows: int, shard_parts: int
) -> None:
    folder = tmp_path_factory.mktemp("bm25")  # type: ignore[attr-defined]
    corpus, words = [" ".join(text) for text in texts], " ".join(query)
    store, layout = _store(folder, corpus, part_rows, shard_parts)
    scores, rows = _rank(store, layout, words, len(corpus))
    stemmer = Stemmer.Stemmer("english")
    reference = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    tokens = bm25s.tokenize(
        corpus, stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False, allow_empty=False
    )
    asked = bm25s.tokenize(
        [words], stopwords="en", stemmer=stemmer, show_progress=False, return_ids=False, allow_empty=False
    )[0]
    known = {word for text in tokens for word in text}
    expected = np.zeros(len(corpus), dtype=np.float32)
    if known & set(asked):
        reference.index(tokens, show_progress=False)
        expected = reference.get_scores([word for word in asked if word in known])
    found = rows != NO_ROW
    np.testing.assert_allclose(scores[found], expected[rows[found]], rtol=1e-5)
    assert set(rows[found].tolist()) == set(np.flatnonzero(expected).tolist())
    assert scores[found].tolist() == sorted(scores[found].tolist(), reverse=True)


def test_equal_scores_go_in_row_order_and_a_filter_leaves_rows_out(tmp_path: Path) -> None:
    store, layout = _store(tmp_path, ["jazz trumpet", "jazz trumpet", "castle"] * 3, 2, 2)
    _, rows = _rank(store, layout, "trumpets", 4)
    assert rows.tolist() == [0, 1, 3, 4]
    (text,) = words_of(["jazz"])
    question = Question(np.unique(text), np.ones(1, dtype=np.float32))
    _, rows = best_matches(store, layout.shards, [question], 2.0, 3, Filter(tokens=(5, 9)))
    assert rows.tolist() == [[NO_ROW] * 3]


def test_documents_and_queries_without_words_are_found_by_none(tmp_path: Path) -> None:
    store, layout = _store(tmp_path, ["the of and", "jazz", "...", "the jazz"], 2, 1)
    assert _rank(store, layout, "the", 4)[1].tolist() == [NO_ROW] * 4
    assert _rank(store, layout, "jazz", 4)[1].tolist() == [1, 3, NO_ROW, NO_ROW]


def test_damaged_words_are_named(tmp_path: Path) -> None:
    store, layout = _store(tmp_path, ["jazz", "castle"], 1, 2)
    (shard,) = layout.shards
    words = words_of(["jazz"])[0]
    key = f"{folder_of(shard)}/documents.npy"
    store.write(key, store.read(key)[:-1])
    with pytest.raises(StorageError, match=rf"{folder_of(shard)}: is damaged .*; remove this folder and run"):
        frequencies(store, [shard], words)
    store.write(counts_key(shard), b"{}")
    with pytest.raises(StorageError, match="is damaged"):
        read_counts(store, shard)


def test_words_of_another_number_of_documents_are_refused(tmp_path: Path) -> None:
    store, layout = _store(tmp_path, ["jazz", "castle", "river"], 2, 1)
    first, second = (f"{folder_of(shard)}/lengths.npy" for shard in layout.shards)
    store.write(second, store.read(first))
    with pytest.raises(StorageError, match=r"is damaged \(2 documents instead of 1\)"):
        frequencies(store, layout.shards, words_of(["jazz"])[0])
