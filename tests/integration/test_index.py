import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.errors import DataError, LeaseError, ModelError
from cluster.lease import acquire
from cluster.models import resolve_model
from cluster.storage import LocalStore
from retrieval.documents import Document, make_document
from retrieval.encoder import Encoder
from retrieval.fetch import document_by_id, fetch_documents
from retrieval.index import build_index
from retrieval.manifest import Index, open_index
from retrieval.rankers.dense import DenseRanker
from retrieval.reading.work import read_documents
from retrieval.search import open_retriever
from retrieval.settings import CorpusSettings, EncoderSettings, IndexSettings, RetrieverSettings
from retrieval.vectors import map_vectors
from tests.tiny_encoder import MINILM, save_tiny_encoder

pytestmark = [
    pytest.mark.usefixtures("ray_local"),
    # Ray Data warns of its own settings.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray"),
]

ENCODER = EncoderSettings(model=MINILM, preset="minilm")
SETTINGS = IndexSettings(encoder=ENCODER, partition_rows=8, shard_rows=16)
PLAIN = IndexSettings(name="plain", partition_rows=10)
TOPICS = ("rivers of Europe", "sorting algorithms", "medieval castles", "jazz trumpeters", "alpine flowers")


def _silent(step: str, done: int, total: int) -> None: ...


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _notes(first: int, last: int) -> list[dict[str, Any]]:
    return [
        {"title": f"Note {n}", "text": f"Note {n} about {TOPICS[n % 5]}. " + "More words follow. " * (n % 7)}
        for n in range(first, last)
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    folder = tmp_path_factory.mktemp("corpus")
    _write(folder / "a.jsonl", _notes(0, 40))
    _write(folder / "b.jsonl", [*_notes(30, 60), *_notes(50, 55)])
    return CorpusSettings(path=str(folder))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def index(store: LocalStore, corpus: CorpusSettings, ray_local: str) -> Index:
    return build_index(store, corpus, SETTINGS, _silent)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> IndexSettings:
    folder = save_tiny_encoder(tmp_path_factory.mktemp("tiny"))
    # `index` is embedded by several encoders; each more of them would load torch for nothing.
    encoder = EncoderSettings(model=folder, preset="minilm", dtype="float32", replicas=1)
    return IndexSettings(name="tiny", encoder=encoder, partition_rows=50, shard_rows=150)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> CorpusSettings:
    """A corpus of two files that is built into `whole` at once, and elsewhere file by file."""
    folder = tmp_path_factory.mktemp("large")
    _write(folder / "a.jsonl", _notes(0, 170))
    _write(folder / "b.jsonl", _notes(165, 400))
    return CorpusSettings(path=str(folder))


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, large: CorpusSettings, tiny: IndexSettings, ray_local: str
) -> Index:
    return build_index(LocalStore(tmp_path_factory.mktemp("whole")), large, tiny, _silent)


def _copied(index: Index, folder: Path) -> tuple[LocalStore, Index]:
    """Return a copy of an index's store that a test may spoil, and the index therein."""
    assert isinstance(index.store, LocalStore)
    shutil.copytree(index.store.root.parents[index.key.count("/")], folder / "copy")
    store = LocalStore(folder / "copy")
    return store, open_index(store, index.manifest.name)


def _vectors(index: Index) -> np.ndarray:
    parts = [map_vectors(index.store, part) for part in index.layout.parts]
    return np.concatenate(parts).astype(np.float32)


async def test_search_equals_brute_force(index: Index, corpus: CorpusSettings) -> None:
    assert (index.rows, len(index.layout.shards)) == (60, 4)
    assert dict(index.manifest.refused) == {"duplicate": 15}
    documents = list(read_documents(corpus))
    queries = ["castles of the middle ages", "which flowers grow in the mountains?", "a trumpet player"]
    hits = await open_retriever(index, RetrieverSettings()).search(queries, 25)
    expected = Encoder(ENCODER).encode(queries, "query") @ _vectors(index).T
    for found, scores in zip(hits, expected, strict=True):
        assert [hit.rank for hit in found] == list(range(1, 26))
        np.testing.assert_allclose([hit.score for hit in found], np.sort(scores)[::-1][:25], atol=2e-3)
        for hit in found:
            row = [document.id for document in documents].index(hit.document.id)
            assert hit.score == pytest.approx(scores[row], abs=2e-3)
            assert hit.document.text == documents[row].text
    assert "castles" in hits[0][0].document.text


def test_a_second_build_finds_the_first(index: Index, store: LocalStore, corpus: CorpusSettings) -> None:
    steps: list[str] = []
    again = build_index(store, corpus, SETTINGS, lambda step, *_: steps.append(step))
    assert (again.manifest, steps) == (index.manifest, [])
    assert open_index(store, "corpus").fingerprint == index.fingerprint
    wider = SETTINGS.model_copy(update={"memory_gb": 3.0, "partition_rows": 9})
    assert build_index(store, corpus, wider, _silent).fingerprint == index.fingerprint


def test_a_document_is_found_by_its_id(index: Index, corpus: CorpusSettings) -> None:
    for document in list(read_documents(corpus))[::17]:
        assert document_by_id(index, document.id).text == document.text
    with pytest.raises(DataError, match="0123456789abcdef"):
        document_by_id(index, "0123456789abcdef")


def test_a_build_resumes_at_the_missing_part(
    whole: Index, large: CorpusSettings, tiny: IndexSettings, tmp_path: Path
) -> None:
    store, index = _copied(whole, tmp_path)
    before = _vectors(index)
    manifest = next(key for key in index.store.list("") if key.startswith("manifest"))
    gone = index.layout.parts[2]
    index.store.delete(manifest)
    index.store.delete(gone.vectors_key)
    stamps = {key: (store.root / index.key / key).stat().st_mtime_ns for key in index.store.list("")}
    seen: list[tuple[str, int, int]] = []
    again = build_index(store, large, tiny, lambda *step: seen.append(step))
    left = 400 - gone.rows
    assert [step for step in seen if step[0] == "embed"] == [("embed", left, 400), ("embed", 400, 400)]
    assert again.fingerprint == index.fingerprint
    np.testing.assert_array_equal(_vectors(again), before)
    for key in stamps:
        if key.startswith(("documents", "vectors", "splits", "plan")):
            assert stamps[key] == (store.root / index.key / key).stat().st_mtime_ns, key


async def test_files_are_appended_and_the_old_index_stays(
    whole: Index, large: CorpusSettings, tiny: IndexSettings, tmp_path: Path
) -> None:
    corpus = CorpusSettings(path=shutil.copytree(large.path, str(tmp_path / "corpus")))
    with pytest.raises(DataError, match="there is none with these settings to append to"):
        build_index(LocalStore(tmp_path / "none"), corpus, tiny, _silent, append=True)
    store, first = _copied(whole, tmp_path)
    assert build_index(store, corpus, tiny, _silent, append=True).fingerprint == first.fingerprint
    _write(Path(corpus.path, "c.jsonl"), _notes(395, 435))
    second = build_index(store, corpus, tiny, _silent, append=True)
    assert (first.rows, second.rows, second.manifest.generation) == (400, 435, 2)
    assert first.key == second.key
    assert (dict(first.manifest.refused), dict(second.manifest.refused)) == (
        {"duplicate": 5},
        {"duplicate": 10},
    )
    assert second.layout.parts[: len(first.layout.parts)] == first.layout.parts
    assert build_index(store, corpus, tiny, _silent).fingerprint == second.fingerprint
    assert open_index(store, "tiny").fingerprint == second.fingerprint
    assert open_index(store, first.fingerprint).rows == 400
    await _check_scores(second, list(read_documents(corpus)))


async def _check_scores(index: Index, documents: list[Document]) -> None:
    """Compare what a search of the whole index finds with these documents, encoded here and now."""
    encoder = Encoder(index.encoder)
    queries = encoder.encode(["castles", "rivers and mountains"], "query")
    expected = queries @ encoder.encode([document.titled_text for document in documents]).T
    scores, rows = await DenseRanker(index).rank_vectors(queries, index.rows)
    fetched = await fetch_documents(index, rows)
    places = {document.id: place for place, document in enumerate(documents)}
    for query, ranked in enumerate(rows.tolist()):
        found = [places[fetched[row].id] for row in ranked]
        assert sorted(found) == list(range(len(documents)))
        np.testing.assert_allclose(scores[query], expected[query][found], atol=2e-3)


async def test_another_structure_uses_the_same_vectors(
    whole: Index, large: CorpusSettings, tiny: IndexSettings, tmp_path: Path
) -> None:
    store, exact = _copied(whole, tmp_path)
    steps: list[str] = []
    ivf = build_index(
        store, large, tiny.model_copy(update={"structure": "ivf_sq"}), lambda step, *_: steps.append(step)
    )
    assert "read" not in steps
    assert (ivf.key, ivf.rows, ivf.structure.kind) == (exact.key, 400, "ivf_sq")
    assert ivf.fingerprint != exact.fingerprint
    assert ivf.structure.recall >= 0.95
    queries = _vectors(exact)[:50]
    best = [(await DenseRanker(each).rank_vectors(queries, 10))[1] for each in (exact, ivf)]
    same = [len(set(ours) & set(theirs)) / 10 for ours, theirs in zip(*best, strict=True)]
    assert sum(same) / 50 >= 0.9


def test_refused_rows_are_counted_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "fine one"}\n{"text": \n{"text": "fine two"}\n{"body": "x"}\n{"text": " "}\n')
    store = LocalStore(tmp_path / "store")
    with pytest.raises(DataError, match=r"c\.jsonl:2: is not a JSON object"):
        build_index(store, CorpusSettings(path=str(path)), PLAIN, _silent)
    lenient = CorpusSettings(path=str(path), bad_rows="refuse")
    with pytest.raises(DataError, match=r"3 of 5 rows were refused, more than corpus\.refused_share 0\.05"):
        build_index(store, lenient, PLAIN, _silent)
    index = build_index(store, lenient.model_copy(update={"refused_share": 0.6}), PLAIN, _silent)
    assert index.rows == 2
    assert sum(index.manifest.refused.values()) == 3
    assert index.store.list("refused")


def test_rows_of_one_key_with_other_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    _write(path, [{"text": f"text {n}", "name": f"row {n % 3}"} for n in range(5)])
    corpus = CorpusSettings(path=str(path), key="name")
    with pytest.raises(DataError, match="2 rows have the 'name' of an earlier row and another text"):
        build_index(LocalStore(tmp_path), corpus, PLAIN, _silent)
    lenient = corpus.model_copy(update={"bad_rows": "refuse"})
    index = build_index(LocalStore(tmp_path), lenient, PLAIN, _silent)
    assert (index.rows, dict(index.manifest.refused)) == (3, {"duplicate_key": 2})


def test_two_drivers_do_not_build_one_index(corpus: CorpusSettings, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    index = build_index(store, corpus, PLAIN, _silent)
    for key in index.store.list(""):
        if key.startswith("manifest"):
            index.store.delete(key)
    lease = acquire(index.store)
    with pytest.raises(LeaseError, match="is owned by"):
        build_index(store, corpus, PLAIN, _silent)
    lease.release()
    assert build_index(store, corpus, PLAIN, _silent).rows == 60


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
    encoder = EncoderSettings(model=str(tmp_path), preset="minilm", replicas=1)
    with pytest.raises(ModelError, match=r"^encoder.model .* cannot be loaded"):
        build_index(LocalStore(tmp_path), corpus, IndexSettings(encoder=encoder), _silent)


async def test_an_error_in_a_task_comes_back_as_it_was_raised(index: Index) -> None:
    gone = ENCODER.model_copy(update={"model": "package:no_such_package/x"})
    manifest = replace(index.manifest, encoder=gone.model_dump(mode="json"))
    with pytest.raises(ModelError, match=r"^model package:no_such_package/x: ") as error:
        await open_retriever(replace(index, manifest=manifest), RetrieverSettings()).search(["anything"], 5)
    assert type(error.value) is ModelError


async def test_an_encoder_of_another_version_is_refused(index: Index) -> None:
    other = replace(index, manifest=replace(index.manifest, encoder_revision="0123"))
    with pytest.raises(DataError, match=r"was built with revision 0123 of .*, here is "):
        await open_retriever(other, RetrieverSettings()).search(["anything"], 5)


def test_an_empty_corpus_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("")
    with pytest.raises(DataError, match="holds no documents"):
        build_index(LocalStore(tmp_path), CorpusSettings(path=str(path)), PLAIN, _silent)


def test_an_index_without_an_encoder_has_documents_only(corpus: CorpusSettings, tmp_path: Path) -> None:
    index = build_index(LocalStore(tmp_path), corpus, IndexSettings(partition_rows=25), _silent)
    assert (index.rows, index.manifest.dimension) == (60, 0)
    with pytest.raises(DataError, match=r"has no vectors; give index\.encoder"):
        open_retriever(index, RetrieverSettings())
