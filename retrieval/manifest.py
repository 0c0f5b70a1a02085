"""What is written last into an index folder and makes the index complete, and how an index is opened."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.settings import EncoderSettings

FOLDER = "indexes"
MANIFEST = "manifest.json"


def documents_key(partition: int) -> str:
    """Key of a partition's documents."""
    return f"documents/part-{partition:05d}.parquet"


def embeddings_key(partition: int) -> str:
    """Key of a partition's vectors, in the order of its documents."""
    return f"embeddings/part-{partition:05d}.parquet"


def shard_key(shard: int) -> str:
    """Key of a FAISS shard."""
    return f"shards/shard-{shard:05d}.faiss"


@dataclass(frozen=True, slots=True)
class Layout:
    """How documents are cut: all partitions but the last have partition_rows, shards are whole partitions."""

    rows: int
    partition_rows: int
    shard_rows: int

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return -(-self.rows // self.partition_rows)

    @property
    def shards(self) -> list[range]:
        """The partitions of each shard."""
        per_shard = -(-self.shard_rows // self.partition_rows)
        starts = range(0, self.partitions, per_shard)
        return [range(start, min(start + per_shard, self.partitions)) for start in starts]

    def rows_in(self, partition: int) -> int:
        """How many documents a partition has."""
        return min(self.partition_rows, self.rows - partition * self.partition_rows)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index was made from; created is an ISO 8601 time."""

    fingerprint: str
    name: str
    created: str
    rows: int
    partition_rows: int
    shard_rows: int
    dimension: int
    corpus: str
    corpus_hash: str
    encoder: dict[str, Any]
    encoder_revision: str
    pooling: str
    normalise: bool
    versions: dict[str, str]

    def as_json(self) -> bytes:
        """Render it for the store."""
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Index:
    """A complete index; store is its own folder, key where that lies in the user's store."""

    store: Store
    key: str
    manifest: Manifest

    @property
    def rows(self) -> int:
        """How many documents it holds."""
        return self.manifest.rows

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines its content."""
        return self.manifest.fingerprint

    @property
    def layout(self) -> Layout:
        """How its documents are cut."""
        return Layout(self.rows, self.manifest.partition_rows, self.manifest.shard_rows)

    @property
    def encoder(self) -> EncoderSettings:
        """The encoder that queries need."""
        return EncoderSettings.model_validate(self.manifest.encoder)


def index_key(name: str, fingerprint: str) -> str:
    """Key of an index's folder."""
    return f"{FOLDER}/{name}-{fingerprint}"


def find_index(store: Store, key: str) -> Index | None:
    """Return the index in a folder if it is complete."""
    folder = store.within(key)
    if not folder.exists(MANIFEST):
        return None
    try:
        manifest = Manifest(**json.loads(folder.read(MANIFEST)))
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{folder.url}/{MANIFEST}: is not an index manifest of this version ({error}); "
            "remove the folder to build the index anew"
        ) from error
    return Index(folder, key, manifest)


def open_index(store: Store, name: str) -> Index:
    """Open a complete index by its name (the newest of that name) or its fingerprint; DataError if absent."""
    keys = {"/".join(key.split("/")[:2]) for key in store.list(FOLDER) if key.endswith(f"/{MANIFEST}")}
    complete = [index for key in sorted(keys) if (index := find_index(store, key)) is not None]
    named = [index for index in complete if name in (index.manifest.name, index.fingerprint)]
    if not named:
        known = ", ".join(sorted({index.manifest.name for index in complete})) or "none"
        raise DataError(
            f"index {name}: is not in {store.url}; complete there: {known}. Run `nightshift index`"
        )
    return max(named, key=lambda index: index.manifest.created)
