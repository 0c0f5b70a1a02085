"""Build an index: read, embed and shard a corpus; resume where an earlier build stopped.

Layout of `indexes/<name>-<fingerprint>/`: `documents/part-*.parquet` (id, text, title),
`embeddings/part-*.parquet` (id, embedding), `shards/shard-*.faiss`, and `manifest.json`, written last.
"""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version

from cluster.errors import RunError
from cluster.models import ResolvedModel, resolve_model
from cluster.settings import digest
from cluster.storage import Store
from retrieval.corpus import check_corpus, corpus_hash
from retrieval.embedding import embed
from retrieval.manifest import MANIFEST, Index, Layout, Manifest, find_index, index_key, shard_key
from retrieval.partitions import cut_corpus
from retrieval.remote import FAISS_ENVIRONMENT, own_errors
from retrieval.settings import CorpusSettings, IndexSettings
from retrieval.shards import build_shard

_LIBRARIES = ("ray", "torch", "transformers", "pyarrow")

Progress = Callable[[str, int, int], None]


def build_index(store: Store, corpus: CorpusSettings, settings: IndexSettings, progress: Progress) -> Index:
    """Return the index of a corpus, built as far as it is missing; the caller has connected to Ray.

    progress receives a step (read, embed, shard), what is done of it and its total, in documents or
    shards. Errors: DataError for the corpus, ModelError for the encoder.
    """
    check_corpus(corpus)
    model = resolve_model(settings.encoder.model)
    files = corpus_hash(corpus)
    fingerprint = _fingerprint(files, corpus, settings, model)
    key = index_key(settings.name, fingerprint)
    complete = find_index(store, key)
    if complete is not None:
        return complete
    folder = store.within(key)
    rows = cut_corpus(folder, corpus, settings.partition_rows, progress)
    layout = Layout(rows, settings.partition_rows, settings.shard_rows)
    embed(folder, layout, settings.encoder, progress)
    encoder = settings.encoder
    manifest = Manifest(
        fingerprint=fingerprint,
        name=settings.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        **asdict(layout),
        dimension=_build_shards(folder, layout, progress),
        corpus=str(corpus.path),
        corpus_hash=files,
        encoder=encoder.model_dump(mode="json"),
        encoder_revision=model.revision,
        pooling=encoder.family.pooling,
        normalise=encoder.family.normalise,
        versions={name: version(name) for name in _LIBRARIES},
    )
    folder.write(MANIFEST, manifest.as_json())
    return Index(folder, key, manifest)


def _fingerprint(files: str, corpus: CorpusSettings, settings: IndexSettings, model: ResolvedModel) -> str:
    content = {
        "corpus": files,
        "columns": [list(corpus.text), corpus.title],
        "model": model.revision,
        "encoder": settings.encoder.model_dump(mode="json", include={"preset", "max_tokens", "dtype"}),
        "layout": [settings.partition_rows, settings.shard_rows],
    }
    return digest(content)[:16]


def _build_shards(store: Store, layout: Layout, progress: Progress) -> int:
    """Build the shards that are missing, as Ray tasks, and return the dimension of the vectors."""
    import ray

    task = ray.remote(num_cpus=1, runtime_env=FAISS_ENVIRONMENT)(build_shard)
    pending = [task.remote(store, n, list(parts)) for n, parts in enumerate(layout.shards)]
    rows, dimension = 0, 0
    for done, reference in enumerate(pending, 1):
        with own_errors():
            built, dimension = ray.get(reference)
        rows += built
        progress("shard", done, len(pending))
    if rows != layout.rows:
        raise RunError(
            f"{store.url}: {layout.rows} documents were read but the shards hold {rows} vectors; "
            f"remove the folder and build again ({shard_key(0)} ff.)"
        )
    return dimension
