import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.index import build_index
from retrieval.manifest import Index
from retrieval.rankers.bm25 import ensure_bm25
from retrieval.search import Retriever, open_retriever
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings
from tests.tiny_encoder import MINILM

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

KINDS = ("dense", "bm25", "random", "hybrid")
PLACES = ("river", "castle", "harbour", "volcano")
QUERIES = ["a castle on a hill", "the old harbour", "which river is long?"]


def _silent(step: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, ray_local: str) -> Index:
    folder = tmp_path_factory.mktemp("retrievers")
    rows = [
        {
            "text": f"The {PLACES[n % 4]} number {n} is known for its story. "
            + "It is old and wide. " * (n % 5),
            "continent": "Europe" if n % 3 else "Asia",
            "year": 1900 + n % 2,
        }
        for n in range(80)
    ]
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    built = build_index(
        LocalStore(folder / "store"),
        CorpusSettings(path=str(folder / "c.jsonl"), metadata=("continent", "year")),
        IndexSettings(
            encoder=EncoderSettings(model=MINILM, preset="minilm"), partition_rows=10, shard_rows=30
        ),
        _silent,
    )
    ensure_bm25(built, _silent)
    return built


def _open(index: Index, **settings: object) -> Retriever:
    return open_retriever(index, RetrieverSettings.model_validate(settings))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_keeps_one_contract(index: Index, kind: str) -> None:
    retriever = _open(index, kind=kind)
    found = await retriever.search(QUERIES, 12)
    assert [[hit.rank for hit in hits] for hits in found] == [list(range(1, 13))] * 3
    for hits in found:
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert len({hit.document.id for hit in hits}) == 12
    assert await retriever.search(QUERIES, 12) == found
    assert (retriever.band is not None) == (kind == "dense")
    if kind != "random":
        assert all("castle" in hit.document.text for hit in found[0][:5])
        assert all("harbour" in hit.document.text for hit in found[1][:5])


@pytest.mark.parametrize("kind", KINDS)
async def test_filters_hold_for_every_kind(index: Index, kind: str) -> None:
    retriever = _open(index, kind=kind, where={"continent": ["Asia"], "year": ["1900"]}, tokens=(5, 40))
    found = await retriever.search(QUERIES, 80)
    # No castle passes the filter, and bm25 finds only what shares a word.
    assert [bool(hits) for hits in found] == [kind != "bm25", True, True]
    for hits in found:
        for hit in hits:
            assert hit.document.metadata == {"continent": "Asia", "year": "1900"}
            assert 5 <= hit.document.tokens <= 40


async def test_a_document_serves_as_often_as_it_may_and_others_move_up(index: Index) -> None:
    queries = ["a castle on a hill"] * 4 + ["the castle"]
    hits = await _open(index, reuse=2).search(queries, 10)
    served = Counter(hit.document.id for each in hits for hit in each)
    assert max(served.values()) == 2
    assert [len(each) for each in hits] == [10] * 5
    assert [hit.rank for hit in hits[3]] == list(range(1, 11))


async def test_all_of_an_index_are_fetched_once_each_and_a_band_leaves_gaps_in_the_ranks(
    index: Index,
) -> None:
    queries = QUERIES * 10
    assert await _open(index).search([], 5) == []
    found = await _open(index).search(queries, 500)
    assert all(len({hit.document.id for hit in hits}) == len(hits) == 80 for hits in found)
    assert np.isfinite([hit.score for hit in found[0]]).all()

    low, high = found[0][30].score, found[0][4].score
    retriever = _open(index, band=[low, high])
    assert retriever.band == (low, high)
    (hits, *_) = await retriever.search(queries, 500)
    assert hits[0].rank <= 5 and hits[-1].rank >= 31
    assert hits == [hit for hit in found[0] if low <= hit.score <= high]


def test_unknown_metadata_and_uncounted_words_are_named(index: Index, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no metadata 'country' but continent, year"):
        _open(index, where={"country": ["x"]})
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"text": "a b c"}\n')
    bare = build_index(LocalStore(tmp_path), CorpusSettings(path=str(corpus)), IndexSettings(), _silent)
    with pytest.raises(DataError, match="its words have not been counted"):
        _open(bare, kind="bm25")
    assert _open(bare, kind="random").band is None
