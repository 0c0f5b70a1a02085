"""Settings of corpora, encoders, indexes and retrievers, and the presets of known encoders."""

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from cluster.settings import Settings

MINILM_BAND = (0.3, 0.95)
"""Cosines between which a document is near a MiniLM query, but no copy of it.

Measured on DBpedia-14 (140 seeds, 3,500 abstracts, ranks 1-50): of the hits around 0.25 every second has its
seed's label, around 0.30 64 %, 0.35 75 %, 0.40 88 %, from 0.45 on over 95 %; few hits reach 0.40.
"""


@dataclass(frozen=True, slots=True)
class EncoderPreset:
    """How a family of encoders was trained: pooling, normalisation, prefixes.

    band holds the cosines (low, high) between which a retrieved document grounds an example; None: the
    family has no published band, so ranks alone decide.
    """

    pooling: Literal["mean", "cls"]
    normalise: bool
    query_prefix: str
    document_prefix: str
    band: tuple[float, float] | None


PRESETS: dict[str, EncoderPreset] = {
    # sentence-transformers/all-MiniLM-L6-v2, model card: mean pooling, then normalised.
    "minilm": EncoderPreset("mean", True, "", "", MINILM_BAND),
    # facebook/contriever, model card: mean pooling, trained for the dot product; SynthesizRR (Divekar and
    # Durrett 2024) normalises and keeps cosines of 0.4 to 0.9, so the band holds only with normalisation.
    "contriever": EncoderPreset("mean", True, "", "", (0.4, 0.9)),
    # intfloat/e5-base-v2, model card.
    "e5": EncoderPreset("mean", True, "query: ", "passage: ", None),
    # BAAI/bge-base-en-v1.5, model card.
    "bge": EncoderPreset("cls", True, "Represent this sentence for searching relevant passages: ", "", None),
}


class CorpusSettings(Settings):
    """Where the documents are, which columns hold them, and how they are cleaned."""

    path: str
    """File or folder, local or `s3://bucket/prefix`; a folder's files are read in name order."""
    format: Literal["auto", "jsonl", "parquet", "csv", "text", "dataset"] = "auto"
    """auto goes by the names of the files. text: one document a file. dataset: saved by `save_to_disk`."""
    text: tuple[str, ...] = Field(default=("text",), min_length=1)
    """Columns that make the text, joined by line breaks."""
    title: str | None = "title"
    """Column of the title, where a row has one."""
    key: str | None = None
    """Column that names a row. A row with the name of an earlier one and another text is refused."""
    metadata: tuple[str, ...] = ()
    """Columns kept as texts, for `retriever.where`."""
    html: bool = False
    """Strip HTML tags and entities from title and text."""
    long: Literal["keep", "truncate", "chunk"] = "keep"
    """Documents over `tokens`: keep whole (the encoder reads their beginning), truncate, or cut into chunks,
    the latter two at a sentence end."""
    tokens: int = Field(default=256, ge=16)
    """Tokens of a truncated document or a chunk, at most: the encoder's."""
    bad_rows: Literal["stop", "refuse"] = "stop"
    """What a row or file that cannot be used does: stop with its place, or be counted and kept aside."""
    refused_share: float = Field(default=0.05, gt=0, le=1)
    """Share of refused rows above which the build stops after all."""


class EncoderSettings(Settings):
    """The model that turns texts into vectors."""

    model: str
    """Hub id, folder, or `package:<import name>/<path>`."""
    preset: Literal["minilm", "contriever", "e5", "bge"]
    """Family of the model: fixes pooling, normalisation, prefixes and the similarity band."""
    max_tokens: int = Field(default=256, ge=8)
    """Tokens of a text that are read; the rest is cut off."""
    batch_tokens: int | None = Field(default=None, ge=64)
    """Tokens in one forward pass, padding included; by default 2,048 on a CPU, 65,536 on a GPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the forward pass; auto takes bfloat16 where the hardware computes in it."""
    replicas: int | None = Field(default=None, ge=1)
    """Loaded copies of the model; by default one a GPU, or else one a core."""

    @property
    def family(self) -> EncoderPreset:
        """The preset's values."""
        return PRESETS[self.preset]


class IndexSettings(Settings):
    """How a corpus is cut, embedded and indexed."""

    name: str = Field(default="corpus", pattern=r"^[A-Za-z0-9_.-]+$")
    """First part of the index folder's name."""
    encoder: EncoderSettings | None = None
    """What turns texts into vectors; bm25 and random retrieval do without."""
    partition_rows: int = Field(default=4096, ge=1)
    """Documents embedded and committed together: what a crash can cost."""
    shard_rows: int = Field(default=250_000, ge=1)
    """Documents in one shard, rounded up to whole partitions."""
    structure: Literal["auto", "exact", "ivf_sq", "ivf_pq"] = "auto"
    """exact compares with every vector. ivf_sq and ivf_pq look into the nearest lists, at 8 bits a dimension
    or at product-quantised codes, then compare the best with the exact vectors. auto: exact up to
    `exact_rows`, above that ivf_sq where its codes fit `memory_gb`, else ivf_pq."""
    exact_rows: int = Field(default=500_000, ge=0)
    """Documents up to which auto takes exact."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory that the codes may take over the whole cluster; by default a quarter of what Ray finds."""
    recall: float = Field(default=0.95, gt=0, le=1)
    """Share of the exact 50 nearest that an ivf structure has to find, measured when it is built."""
    merge: bool = False
    """Merge the ivf shards into one, for a search on a single machine."""


class RetrieverSettings(Settings):
    """How documents are fetched for a query."""

    kind: Literal["dense", "bm25", "random", "hybrid"] = "dense"
    """dense: nearest vectors. bm25: shared words. random: any. hybrid: the ranks of the first two, fused."""
    band: tuple[float, float] | None = None
    """Scores a hit must have, both ends included; hits outside leave gaps in the ranks. Methods that use a
    similarity band take the encoder preset's without it."""
    reuse: int | None = Field(default=None, ge=1)
    """Queries of one search that a document may serve, at most; the next ones move up."""
    tokens: tuple[int, int] | None = None
    """Fewest and most tokens of a document (the encoder's; words where the index has none)."""
    where: dict[str, tuple[str, ...]] = {}
    """Metadata column: the values it may have."""
    seed: int = 0
    """Seed of random retrieval."""
