"""Settings of corpora, encoders, indexes and retrievers, and the presets of known encoders."""

from dataclasses import dataclass
from pathlib import Path
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
    """Where the documents are and which columns hold them."""

    path: Path
    """JSONL (plain, .gz, .zst) or Parquet file, or a folder of such files, read in name order."""
    text: tuple[str, ...] = Field(default=("text",), min_length=1)
    """Columns that make the text, joined by line breaks."""
    title: str | None = "title"
    """Column of the title, where a row has one."""


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
    encoder: EncoderSettings
    partition_rows: int = Field(default=4096, ge=1)
    """Documents embedded and committed together: what a crash can cost."""
    shard_rows: int = Field(default=250_000, ge=1)
    """Documents in one FAISS shard, rounded up to whole partitions."""


class RetrieverSettings(Settings):
    """How documents are fetched for a query."""

    kind: Literal["dense"] = "dense"
    """dense: nearest vectors."""
