"""Settings of Incubator's two stages (2404.10877): what pairs are built, and which dictionaries are kept.

What the paper leaves open is marked "ours".
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from cluster.settings import Settings
from retrieval.settings import EncoderSettings


class PairSettings(Settings):
    """Stage 1: pairs of an instruction and a dictionary with one gold text for each of its labels."""

    per_dataset: int = Field(200, ge=1)
    """Pairs of each dataset, at most: they end when a label has no row left (ours)."""
    vary: float = Field(0.5, ge=0, le=1)
    """Share of a dataset's pairs that do not name all its labels in its order: labels are permuted, and of
    more than two some are left out (ours; the paper has a stronger teacher rewrite descriptions)."""
    other: float = Field(0.3, ge=0, le=1)
    """Share of those pairs that end with `Other`, whose text is a row of a label left out. The paper's user
    may ask for `Other`, and its text depends on what else is named."""
    labels: int = Field(12, ge=2)
    """Most labels of a pair; of datasets with more, each pair draws some (ours)."""
    wordings: bool = True
    """Word instructions in several ways of ours too, as long as no writer has reworded them."""
    letters: int = Field(240, ge=20)
    """Longest text; longer ones are cut at the end of a sentence or left out (ours: what Incubator's
    method leaves each label of a reply, 64 tokens of some four letters)."""


class WriterSettings(Settings):
    """What a stronger teacher adds to the pairs, as GPT-4 does in the paper."""

    teacher: dict[str, Any]
    """The stronger teacher; keys as under the recipe's `teacher`."""
    rewrite: int = Field(4, ge=0)
    """Rewordings asked of each dataset's instruction (ours)."""
    invent: int = Field(0, ge=0)
    """New tasks to invent, each with one dictionary, shown some real pairs (the paper gives no number)."""
    shown: int = Field(3, ge=1)
    """Real pairs that a request for a new task shows (ours)."""
    temperature: float = Field(1.0, ge=0, le=5)
    """Of all these requests (ours)."""
    max_tokens: int = Field(800, ge=32)
    """Tokens of a reply: a list of rewordings, or a task with its dictionary (ours)."""


class DiversifySettings(Settings):
    """Stage 2, self-diversification: of many dictionaries of an instruction, the middle of each cluster."""

    dictionaries: int = Field(1024, ge=1)
    """Dictionaries sampled for each instruction (the paper's example)."""
    instructions: int = Field(1, ge=1)
    """Instructions of each dataset: first its own with all labels, then those of varied pairs (ours)."""
    own_task: bool = False
    """Take the recipe's task as well: it costs no gold rows (ours)."""
    clusters: int = Field(64, ge=1)
    """K: dictionaries kept of each instruction (ours; the paper does not say)."""
    least: float = Field(4.0, ge=1)
    """An instruction with fewer distinct dictionaries than so many times `clusters` is left out (ours)."""
    encoder: EncoderSettings = EncoderSettings(
        # Pools and normalises as its relative does.
        model="sentence-transformers/all-mpnet-base-v2",
        preset="minilm",
    )
    """What embeds the texts (ours: all-mpnet-base-v2, which SynthesizRR measures likeness with)."""
    restarts: int = Field(10, ge=1)
    """Starts of K-means, of which the best counts (k-means++, ours)."""


class IncubationSettings(Settings):
    """Incubator's two stages: tune the teacher on pairs, then on the most diverse of what it then writes."""

    datasets: tuple[Path | dict[str, Any], ...] = Field(min_length=1)
    """Labelled datasets, each a task as under `task`: a task file, a folder with a `task.yaml`, the task
    itself, or `file` with what differs. Its `seeds` are the rows. Instructions should not list the labels."""
    pairs: PairSettings = PairSettings()
    """How pairs are drawn."""
    writer: WriterSettings | None = None
    """A stronger teacher that rewords instructions and invents tasks; by default there is none."""
    diversify: DiversifySettings | None = DiversifySettings()
    """The second stage; null leaves it out."""
    restart: Literal["stage1", "base"] = "stage1"
    """What the second stage tunes: the teacher of the first, or the untuned one (the paper does not say)."""
    seed: int = Field(0, ge=0)
    """Seed of the pairs and of K-means."""
