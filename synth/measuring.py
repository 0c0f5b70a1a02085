"""Measuring texts on a cluster: what metrics read of each in parallel, kept by content, then each metric.

Features of some thousand texts at a time are read in a task and written to the store; metrics, a task
each, read them from there. What was read or measured before, of the same texts in the same way, is not again.
"""

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather

from cluster.errors import ModelError
from cluster.settings import digest
from cluster.storage import Store
from synth.metrics.metric import Feature, Measured, MetricSettings, NotComputed, Side, Texts

FEATURES = "features"
Answer = dict[str, Any] | str
"""Figures, or why there are none: `not computed, because …`."""
Sides = Mapping[Side, Texts]
_CHUNK = 2048
"""Texts of one task: seconds of work, and what a crash can cost."""
_Place = tuple[Side, Feature]
_Contents = dict[tuple[Side, int | None], str]
"""What is in the first texts of a side, as a hash."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A feature of the first texts of a side, and the files of its chunks."""

    feature: Feature
    side: Side
    texts: tuple[str, ...]

    def chunks(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the name of each chunk's file, which says what is in it, and its texts."""
        key = self.feature.key
        for start in range(0, len(self.texts), _CHUNK):
            some = list(self.texts[start : start + _CHUNK])
            yield f"{FEATURES}/{digest([key, some])}.arrow", some


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where the features that were read are, and why others were not."""

    store: Store
    files: Mapping[_Place, tuple[str, ...]]
    reasons: Mapping[_Place, str]

    def __call__(self, feature: Feature, side: Side) -> pa.Array:
        place = (side, feature)
        if (reason := self.reasons.get(place)) is not None:
            raise NotComputed(reason)
        if not self.files[place]:
            return feature.read([])
        tables = [feather.read_table(io.BytesIO(self.store.read(key))) for key in self.files[place]]
        return pa.concat_arrays([chunk for table in tables for chunk in table["value"].chunks])


def measure_all(
    metrics: Mapping[str, MetricSettings],
    sides: Sides,
    store: Store,
    earlier: Mapping[str, Answer],
    say: Callable[[str], None],
) -> dict[str, Answer]:
    """Measure the dataset by every metric, on the Ray cluster; the answers by the metrics' names.

    earlier holds answers of an evaluation before; features are kept under `features/` of the store, and those
    that no metric reads any more are removed. Settings and version stand in each answer.
    """
    contents: _Contents = {(side, None): _content(texts) for side, texts in sides.items()}
    identities = {name: _identity(metric, sides, contents) for name, metric in metrics.items()}
    known = {name: earlier.get(name) for name in metrics}
    answers: dict[str, Answer] = {
        name: answer
        for name, answer in known.items()
        if isinstance(answer, dict) and answer["identity"] == identities[name]
    }
    asked = {name: metric for name, metric in metrics.items() if name not in answers}
    if asked:
        say(f"Metrics: {', '.join(asked)}")
        kept = _read(_needed(metrics, asked, sides, store), store)
        for name, found in _measured(asked, sides, kept).items():
            about = {
                "identity": identities[name],
                "version": asked[name].version,
                "settings": _told(asked[name]),
            }
            answers[name] = f"not computed, because {found}" if isinstance(found, str) else found | about
    return {name: answers[name] for name in metrics}


def _identity(metric: MetricSettings, sides: Sides, contents: _Contents) -> str:
    """Return what determines a metric's figures; contents holds what was computed of the texts before."""
    place: tuple[Side, int | None] = ("rows", metric.sample)
    if place not in contents:
        contents[place] = _content(sides["rows"].first(metric.sample))
    about = [metric.name, metric.version, metric.model_dump(mode="json")]
    return digest([about, contents[place], contents["gold", None], contents["seeds", None]])


def _content(texts: Texts) -> str:
    return digest([texts.ids, texts.texts, texts.labels])


def _told(metric: MetricSettings) -> dict[str, Any]:
    return metric.model_dump(mode="json", exclude_none=True)


def _measured(
    metrics: Mapping[str, MetricSettings], sides: Sides, kept: _Kept
) -> dict[str, dict[str, Any] | str]:
    """Return figures, or why there are none."""
    import ray

    held = ray.put(dict(sides))
    tasks = {name: ray.remote(_measure).remote(metric, held, kept) for name, metric in metrics.items()}
    return {name: ray.get(task) for name, task in tasks.items()}


def _measure(metric: MetricSettings, sides: Sides, kept: _Kept) -> dict[str, Any] | str:
    rows = sides["rows"].first(metric.sample)
    try:
        return metric.measure(Measured(rows, sides["gold"], sides["seeds"], kept))
    except NotComputed as reason:
        return str(reason)


def _needed(
    metrics: Mapping[str, MetricSettings], asked: Mapping[str, MetricSettings], sides: Sides, store: Store
) -> list[_Wanted]:
    """Return the features that the metrics asked read, and remove those that no metric reads any more.

    They are of as many texts as any metric reads, so that their files are the same whoever is asked.
    """
    wanted = list(_wanted(metrics, sides))
    for key in set(store.list(FEATURES)) - {key for each in wanted for key, _ in each.chunks()}:
        store.delete(key)
    read = {(side, each) for one in asked.values() for side, some in one.features().items() for each in some}
    return [each for each in wanted if (each.side, each.feature) in read]


def _wanted(metrics: Mapping[str, MetricSettings], sides: Sides) -> Iterator[_Wanted]:
    """Yield each feature of each side once, of as many texts as the largest sample asks for."""
    most: dict[_Place, _Wanted] = {}
    for metric in metrics.values():
        for side, features in metric.features().items():
            texts = sides[side].first(metric.how_many(side)).texts
            for feature in features:
                place = (side, feature)
                if place not in most or len(texts) > len(most[place].texts):
                    most[place] = _Wanted(feature, side, texts)
    yield from most.values()


def _read(wanted: list[_Wanted], store: Store) -> _Kept:
    """Read features that no file holds yet, chunk by chunk."""
    import ray

    held, tasks, files = set(store.list(FEATURES)), dict[str, Any](), dict[_Place, tuple[str, ...]]()
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    for each in wanted:
        chunks = list(each.chunks())
        files[each.side, each.feature] = tuple(key for key, _ in chunks)
        task = ray.remote(_read_chunk).options(num_gpus=gpus if each.feature.on_gpu else 0)
        for key, texts in chunks:
            if key not in held and key not in tasks:
                tasks[key] = task.remote(each.feature, texts, store, key)
    failed = {key: reason for key, reason in zip(tasks, ray.get(list(tasks.values())), strict=True) if reason}
    reasons = {
        place: next(failed[key] for key in keys if key in failed)
        for place, keys in files.items()
        if not failed.keys().isdisjoint(keys)
    }
    return _Kept(store, files, reasons)


def _read_chunk(feature: Feature, texts: list[str], store: Store, key: str) -> str | None:
    """Write a chunk's values and return None, or why they cannot be read."""
    try:
        values = feature.read(texts)
    except NotComputed as reason:
        return str(reason)
    except ModelError as error:
        return str(error)
    sink = io.BytesIO()
    feather.write_feather(pa.table({"value": values}), sink, compression="zstd")
    store.write(key, sink.getvalue())
    return None
