"""Build an index: read, embed and structure a corpus; resume where an earlier build stopped."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from cluster.errors import DataError
from cluster.models import resolve_model
from cluster.rundir import owned
from cluster.settings import digest
from cluster.storage import Store
from retrieval.embedding import embed
from retrieval.ids import read_ids
from retrieval.intake import Intake, Plan, begin, take_in
from retrieval.layout import Layout, Part, cut_shards
from retrieval.manifest import Index, Manifest, complete_indexes, index_key, manifest_key
from retrieval.reading.files import CorpusFile, corpus_files
from retrieval.reading.splits import cut_splits
from retrieval.settings import CorpusSettings, IndexSettings
from retrieval.structuring import structure_vectors

_LIBRARIES = ("ray", "torch", "transformers", "pyarrow")
_REQUEST = {"structure", "exact_rows", "recall", "merge", "shard_rows"}

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the recipe asks for: corpus files in reading order, and hashes of the settings that matter."""

    corpus: CorpusSettings
    settings: IndexSettings
    files: tuple[CorpusFile, ...]
    revision: str
    content: str

    @property
    def request(self) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include=_REQUEST)

    @property
    def hashes(self) -> tuple[str, ...]:
        return tuple(file.hash for file in self.files)


def build_index(
    store: Store, corpus: CorpusSettings, settings: IndexSettings, progress: Progress, append: bool = False
) -> Index:
    """Return the index of a corpus, built as far as it is missing; the caller has connected to Ray.

    With append, the newest index of this name and these settings gets the files that it does not have.
    progress receives a step (read, embed, train, shard, tune), what is done of it and its total. Errors:
    DataError for the corpus, ModelError for the encoder, LeaseError while another driver builds the same.
    """
    wanted = _want(corpus, settings)
    known = [index for index in complete_indexes(store) if _same_content(index, wanted)]
    found = [index for index in known if set(index.manifest.corpus) == set(wanted.hashes)]
    complete = [index for index in found if dict(index.manifest.request) == wanted.request]
    if complete:
        return complete[-1]
    if found:
        return _extend(store, wanted, found[-1], (), progress)
    if not append:
        return _build(store, wanted, progress)
    if not known:
        raise DataError(
            f"index {settings.name}: there is none with these settings to append to; leave --append out"
        )
    base = max(known, key=lambda index: (index.manifest.generation, index.manifest.created))
    held = set(base.manifest.corpus)
    new = tuple(file for file in wanted.files if file.hash not in held)
    return _extend(store, wanted, base, new, progress) if new else base


def _want(corpus: CorpusSettings, settings: IndexSettings) -> _Wanted:
    encoder = settings.encoder
    revision = resolve_model(encoder.model).revision if encoder else ""
    cleaning = corpus.model_dump(mode="json", exclude={"path", "refused_share"})
    if corpus.long == "keep":
        del cleaning["tokens"]
    reads = encoder.model_dump(mode="json", include={"preset", "max_tokens", "dtype"}) if encoder else None
    content = digest([cleaning, revision, reads])
    return _Wanted(corpus, settings, tuple(corpus_files(corpus)), revision, content)


def _same_content(index: Index, wanted: _Wanted) -> bool:
    return index.manifest.name == wanted.settings.name and index.manifest.content == wanted.content


def _build(store: Store, wanted: _Wanted, progress: Progress) -> Index:
    key = index_key(wanted.settings.name, digest([wanted.content, wanted.hashes])[:16])
    folder = store.within(key)
    fingerprint = digest([key, wanted.request])[:16]
    with owned(folder):
        intake = _documents(folder, wanted, 1, 0, wanted.files, progress)
        return _finish(folder, key, wanted, fingerprint, intake, None, progress)


def _extend(
    store: Store, wanted: _Wanted, base: Index, new: tuple[CorpusFile, ...], progress: Progress
) -> Index:
    """Add files to an index, or, without files, another structure over the same vectors."""
    fingerprint = digest([base.fingerprint, wanted.request, [file.hash for file in new]])[:16]
    with owned(base.store):
        intake = Intake((), {})
        if new:
            last = max(int(part.name.partition("-")[0]) for part in base.layout.parts)
            first = max(last, *(_split_number(key) for key in base.store.list("splits"))) + 1
            intake = _documents(base.store, wanted, base.manifest.generation + 1, first, new, progress)
        return _finish(base.store, base.key, wanted, fingerprint, intake, base, progress)


def _documents(
    folder: Store,
    wanted: _Wanted,
    generation: int,
    first_split: int,
    files: Sequence[CorpusFile],
    progress: Progress,
) -> Intake:
    splits = tuple(cut_splits(files))
    fingerprint = digest([file.hash for file in files])
    plan = begin(folder, Plan(generation, fingerprint, first_split, splits, wanted.settings.partition_rows))
    earlier = read_ids(folder, generation - 1) if generation > 1 else np.empty(0, dtype=np.uint64)
    return take_in(folder, plan, wanted.corpus, wanted.settings.encoder, earlier, progress)


def _finish(
    folder: Store,
    key: str,
    wanted: _Wanted,
    fingerprint: str,
    intake: Intake,
    base: Index | None,
    progress: Progress,
) -> Index:
    settings = wanted.settings
    layout = _layout(intake.parts, base, settings.shard_rows)
    dimension, structure = 0, {}
    if settings.encoder is not None:
        embed(folder, layout.parts, settings.encoder, progress)
        grown = base if intake.parts else None
        dimension, chosen, layout = structure_vectors(folder, layout, settings, fingerprint, grown, progress)
        structure = asdict(chosen)
    manifest = Manifest(
        fingerprint=fingerprint,
        name=settings.name,
        created=datetime.now(UTC).isoformat(timespec="microseconds"),
        content=wanted.content,
        request=wanted.request,
        generation=base.manifest.generation + bool(intake.parts) if base else 1,
        parts=tuple((part.name, part.rows) for part in layout.parts),
        shard_parts=layout.shard_parts,
        dimension=dimension,
        structure=structure,
        corpus=tuple(dict.fromkeys([*(base.manifest.corpus if base else ()), *wanted.hashes])),
        metadata=wanted.corpus.metadata,
        refused=dict(Counter(base.manifest.refused if base else {}) + Counter(intake.refused)),
        encoder=settings.encoder.model_dump(mode="json") if settings.encoder else None,
        encoder_revision=wanted.revision,
        versions={name: version(name) for name in _LIBRARIES},
    )
    folder.write(manifest_key(fingerprint), manifest.as_json())
    return Index(folder, key, manifest)


def _layout(parts: Sequence[Part], base: Index | None, shard_rows: int) -> Layout:
    """Cut new parts into shards behind those of an index that grows; without new parts, cut all anew."""
    if base is None:
        return Layout(tuple(parts), cut_shards(parts, shard_rows))
    if not parts:
        return Layout(base.layout.parts, cut_shards(base.layout.parts, shard_rows))
    counts = (*base.layout.shard_parts, *cut_shards(parts, shard_rows))
    return Layout((*base.layout.parts, *parts), counts)


def _split_number(key: str) -> int:
    return int(key.rpartition("/")[2].partition(".")[0])
