"""What makes an index complete, and how an index is opened.

An index lies in `indexes/<name>-<content>/`: `documents/` and `vectors/` hold one file a part, `shards/` the
trained structures, `ids-*.npy` find a document by its id. A manifest, written last, makes it complete. There
may be several, all valid: appending adds parts and a manifest, another structure adds shards and a manifest.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.layout import Layout, Part
from retrieval.settings import EncoderSettings

FOLDER = "indexes"
_MANIFEST = re.compile(r"manifest-[0-9a-f]{16}\.json")


def manifest_key(fingerprint: str) -> str:
    """Key of a manifest in the index folder."""
    return f"manifest-{fingerprint}.json"


@dataclass(frozen=True, slots=True)
class Structure:
    """How vectors are searched: every one (exact), or the nearest `probes` of `lists` inverted lists.

    code_bytes is what a vector takes there; the best top_k times oversample are compared exactly.
    recall is the share of the exact 50 nearest found on the tuning sample, name that of its shards' files.
    """

    kind: str = "exact"
    name: str = "shard"
    lists: int = 0
    probes: int = 0
    code_bytes: int = 0
    oversample: int = 1
    recall: float = 1.0


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index was made from; created is an ISO 8601 time, refused counts rows by reason."""

    fingerprint: str
    name: str
    created: str
    content: str
    """Hash of the settings that determine documents and vectors, whatever the corpus."""
    request: Mapping[str, Any]
    """The settings its structure was chosen by."""
    generation: int
    """1, and one more for each append."""
    parts: tuple[tuple[str, int], ...]
    shard_parts: tuple[int, ...]
    dimension: int
    structure: Mapping[str, Any]
    corpus: tuple[str, ...]
    """Hash of each corpus file, in reading order."""
    metadata: tuple[str, ...]
    refused: Mapping[str, int]
    encoder: Mapping[str, Any] | None
    encoder_revision: str
    versions: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Render it for the store."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()


@dataclass(frozen=True, slots=True)
class Index:
    """A complete index; store is its own folder, key where that lies in the user's store."""

    store: Store
    key: str
    manifest: Manifest

    @property
    def rows(self) -> int:
        """How many documents it holds."""
        return sum(rows for _, rows in self.manifest.parts)

    @property
    def fingerprint(self) -> str:
        """Hash of everything that determines its content."""
        return self.manifest.fingerprint

    @property
    def layout(self) -> Layout:
        """How its documents are cut."""
        parts = tuple(Part(name, rows) for name, rows in self.manifest.parts)
        return Layout(parts, tuple(self.manifest.shard_parts))

    @property
    def structure(self) -> Structure:
        """How its vectors are searched."""
        return Structure(**self.manifest.structure)

    @property
    def encoder(self) -> EncoderSettings:
        """The encoder that queries need; DataError when the index has no vectors."""
        if self.manifest.encoder is None:
            raise DataError(
                f"index {self.manifest.name}: has no vectors; give index.encoder, or retriever.kind bm25"
            )
        return EncoderSettings.model_validate(self.manifest.encoder)


def index_key(name: str, fingerprint: str) -> str:
    """Key of an index's folder."""
    return f"{FOLDER}/{name}-{fingerprint}"


def complete_indexes(store: Store) -> list[Index]:
    """Return every complete index of a store, one for each manifest."""
    found = sorted((key.rpartition("/")[0], key) for key in store.list(FOLDER) if is_manifest(key))
    return [_read(store, folder, key) for folder, key in found]


def is_manifest(key: str) -> bool:
    """Say whether a key of the store, `indexes/<folder>/<file>`, is that of a manifest."""
    folder, _, name = key.rpartition("/")
    return folder.count("/") == 1 and _MANIFEST.fullmatch(name) is not None


def open_index(store: Store, name: str) -> Index:
    """Open a complete index by its name (the newest of that name) or its fingerprint; DataError if absent."""
    complete = complete_indexes(store)
    named = [index for index in complete if name in (index.manifest.name, index.fingerprint)]
    if not named:
        known = ", ".join(sorted({index.manifest.name for index in complete})) or "none"
        raise DataError(
            f"index {name}: is not in {store.url}; complete there: {known}. Run `nightshift index`"
        )
    return max(named, key=lambda index: (index.manifest.created, index.manifest.generation))


def _read(store: Store, folder: str, key: str) -> Index:
    try:
        fields = json.loads(store.read(key))
        fields["parts"] = tuple((name, rows) for name, rows in fields["parts"])
        for name in ("shard_parts", "corpus", "metadata"):
            fields[name] = tuple(fields[name])
        manifest = Manifest(**fields)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{store.url}/{key}: is not an index manifest of this version ({error}); "
            "remove the folder to build the index anew"
        ) from error
    return Index(store.within(folder), folder, manifest)
