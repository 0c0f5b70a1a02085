"""What a metric of a dataset is: settings that measure texts, beside gold rows and seeds where there are any.

A metric is one file in `synth/metrics`: a subclass of `MetricSettings` with a name, a version and `measure`.
What is costly to read of a text (its tokens, its entities, its vector) is a `Feature`: read once for all
metrics, in parallel, and kept by the content of the texts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, ClassVar, Literal, Protocol

import pyarrow as pa
from pydantic import Field

from cluster.settings import Settings

Side = Literal["rows", "gold", "seeds"]
"""The dataset's rows, the gold test rows, the seeds."""
Row = tuple[str, str, tuple[str, ...]]
"""Id, text and labels."""


class NotComputed(Exception):
    """Why a figure cannot be given, said in its place: `there are no gold test rows (task.test)`."""


class Feature(Protocol):
    """Something read of each text by itself; equal features have equal `key`."""

    @property
    def key(self) -> str:
        """Return what determines the values beside the texts: kind, version, model."""

    @property
    def on_gpu(self) -> bool:
        """Return whether a model reads the texts, which a GPU is for, where there is one."""

    def read(self, texts: list[str]) -> pa.Array:
        """Return one value per text; NotComputed when it cannot be read here, with the remedy."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts with ids and label names, in the order of a hash of their ids: any beginning is a sample."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    labels: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[Row]:
        """Yield id, text and labels of each."""
        return zip(self.ids, self.texts, self.labels, strict=True)

    def first(self, count: int | None) -> "Texts":
        """Return a sample of so many; all with None."""
        return Texts(self.ids[:count], self.texts[:count], self.labels[:count])


def drawn(ids: list[str], texts: list[str], labels: list[tuple[str, ...]]) -> Texts:
    """Put rows into the order of a hash of their ids, whatever order they come in."""
    order = sorted(range(len(ids)), key=lambda place: (_rank(ids[place]), texts[place]))
    return Texts(
        tuple(ids[place] for place in order),
        tuple(texts[place] for place in order),
        tuple(labels[place] for place in order),
    )


def _rank(id: str) -> bytes:
    return blake2b(id.encode(), digest_size=16, person=b"metrics").digest()


@dataclass(frozen=True, slots=True)
class Measured:
    """What a metric looks at: the rows, sampled as it asked; gold test rows and seeds, empty without any."""

    rows: Texts
    gold: Texts
    seeds: Texts
    reading: Callable[[Feature, Side], pa.Array] = field(repr=False)

    def read(self, feature: Feature, side: Side = "rows") -> pa.Array:
        """Return a feature's values for every text of a side, in order; NotComputed says why not."""
        return self.reading(feature, side).slice(0, len(getattr(self, side)))

    def need_gold(self) -> Texts:
        """Return the gold test rows; NotComputed without any."""
        if not len(self.gold):
            raise NotComputed("the task names no gold test rows (task.test)")
        return self.gold

    def need_seeds(self) -> Texts:
        """Return the seeds; NotComputed without any."""
        if not len(self.seeds):
            raise NotComputed("the task names no seeds (task.seeds)")
        return self.seeds

    def need_rows(self, least: int = 2) -> Texts:
        """Return the rows; NotComputed when there are fewer than `least`."""
        if len(self.rows) < least:
            raise NotComputed(f"it needs {least} rows at least, and there are {len(self.rows)}")
        return self.rows


class MetricSettings(Settings):
    """Base of every metric: its settings, and how it measures.

    `name` is its key in a recipe's `metrics`; `version` rises with any change that can change a figure.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    sample: int | None = Field(default=None, ge=2)
    """Rows that are measured at most, drawn by the hash of their ids; by default all of them."""

    def features(self) -> Mapping[Side, tuple[Feature, ...]]:
        """Return what is to be read of the texts of each side before it measures."""
        return {}

    def how_many(self, side: Side) -> int | None:
        """Return how many texts of a side its features are read of; None for all that there are."""
        return self.sample if side == "rows" else None

    def measure(self, data: Measured) -> dict[str, Any]:
        """Return the figures, as JSON has them, with `n`, the rows measured; NotComputed says why not."""
        raise NotImplementedError
