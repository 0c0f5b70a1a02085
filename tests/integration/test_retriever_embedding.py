"""Texts that a retriever embeds lie where the index's documents and the queries of a search lie."""

import json

import numpy as np
import pytest

from cluster.errors import DataError
from cluster.storage import LocalStore
from retrieval.index import build_index
from retrieval.manifest import Index
from retrieval.rankers.bm25 import ensure_bm25
from retrieval.search import open_retriever
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings
from tests.tiny_encoder import save_tiny_encoder

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

QUERIES = ["a castle on a hill", "the old harbour"]


def _silent(step: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, ray_local: str) -> Index:
    folder = tmp_path_factory.mktemp("embedding")
    rows = [{"title": f"Place {n}", "text": f"The harbour number {n} is old. " * (n + 1)} for n in range(9)]
    (folder / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # A family that reads queries and documents behind prefixes of their own.
    encoder = EncoderSettings(
        model=save_tiny_encoder(folder / "encoder"), preset="e5", dtype="float32", max_tokens=32
    )
    corpus, settings = CorpusSettings(path=str(folder / "c.jsonl")), IndexSettings(encoder=encoder)
    built = build_index(LocalStore(folder / "store"), corpus, settings, _silent)
    ensure_bm25(built, _silent)
    return built


@pytest.mark.parametrize("kind", ["dense", "hybrid"])
async def test_inner_products_of_what_it_embeds_are_the_scores_of_a_search(
    index: Index, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Blocks smaller than the texts are many: the order has to hold over them.
    monkeypatch.setattr("retrieval.rankers.dense._BLOCK", 4)
    retriever = open_retriever(index, RetrieverSettings.model_validate({"kind": kind}))
    assert retriever.encodes
    hits = await open_retriever(index, RetrieverSettings()).search(QUERIES, 9)
    documents = {hit.document.id: hit.document for ranked in hits for hit in ranked}
    order = {name: place for place, name in enumerate(documents)}
    vectors = await retriever.embed([each.titled_text for each in documents.values()], as_queries=False)
    queries = await retriever.embed(QUERIES, as_queries=True)
    assert vectors.dtype == queries.dtype == np.float32
    found = queries @ vectors.T
    wanted = np.zeros_like(found)
    for place, ranked in enumerate(hits):
        for hit in ranked:
            wanted[place, order[hit.document.id]] = hit.score
    assert np.allclose(found, wanted, atol=2e-3)
    # The sides of the family differ, and an empty list has the width of the others.
    assert not np.allclose(await retriever.embed(QUERIES, as_queries=False), queries, atol=1e-2)
    assert (await retriever.embed([], as_queries=True)).shape == (0, queries.shape[1])


@pytest.mark.parametrize("kind", ["bm25", "random"])
async def test_a_retriever_without_an_encoder_says_so(index: Index, kind: str) -> None:
    retriever = open_retriever(index, RetrieverSettings.model_validate({"kind": kind}))
    assert not retriever.encodes
    with pytest.raises(DataError, match=f"retriever.kind: {kind} has no encoder .*; take dense or hybrid"):
        await retriever.embed(QUERIES, as_queries=True)
