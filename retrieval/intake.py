"""Taking documents in: the splits of a corpus are read as Ray tasks, then duplicates are dropped.

Each file is written whole and under a name that the plan fixes, so a build goes on where it stopped.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cluster.errors import DataError
from cluster.storage import Store
from retrieval.duplicates import drop_duplicates
from retrieval.ids import Numbers, write_ids
from retrieval.layout import Part
from retrieval.reading.splits import Piece, Split
from retrieval.reading.work import SplitResult, read_split
from retrieval.remote import TRIES, completed
from retrieval.settings import CorpusSettings, EncoderSettings


@dataclass(frozen=True, slots=True)
class Plan:
    """How one generation of documents is cut; the build that writes it decides for those that resume it."""

    generation: int
    fingerprint: str
    first_split: int
    splits: tuple[Split, ...]
    partition_rows: int

    @property
    def key(self) -> str:
        """Key of the plan in the index folder."""
        return f"plan-{self.generation:06d}.json"


@dataclass(frozen=True, slots=True)
class Intake:
    """The documents of one generation: parts without duplicates, and refused rows by reason."""

    parts: tuple[Part, ...]
    refused: dict[str, int]


def begin(store: Store, plan: Plan) -> Plan:
    """Write the plan, or return the one that an earlier build of the same content wrote."""
    if store.exists(plan.key):
        data = json.loads(store.read(plan.key))
        splits = tuple(tuple(Piece(**piece) for piece in split) for split in data.pop("splits"))
        earlier = Plan(splits=splits, **data)
        if earlier.fingerprint == plan.fingerprint:
            return earlier
        # An append of other files that never came to its end: what it left belongs to no index.
        _clear(store, earlier)
    store.write(plan.key, json.dumps(asdict(plan)).encode())
    return plan


def take_in(
    store: Store,
    plan: Plan,
    corpus: CorpusSettings,
    encoder: EncoderSettings | None,
    earlier: Numbers,
    progress: Callable[[str, int, int], None],
) -> Intake:
    """Read every split that has not been read, drop what came before, and number the documents.

    earlier holds the ids of the documents the index has already, in row order. Errors: DataError.
    """
    marker = f"documents-{plan.generation:06d}.json"
    if store.exists(marker):
        known = json.loads(store.read(marker))
        return Intake(tuple(Part(*part) for part in known["parts"]), known["refused"])
    results = _read(store, plan, corpus, encoder, progress)
    _check_refused(results, corpus)
    parts, ids, dropped = drop_duplicates(store, plan.generation, results, earlier)
    if dropped.get("duplicate_key") and corpus.bad_rows == "stop":
        raise DataError(
            f"corpus {corpus.path}: {dropped['duplicate_key']} rows have the {corpus.key!r} of an earlier "
            "row and another text; remove them, or set corpus.bad_rows to refuse"
        )
    if not parts and not len(earlier):
        raise DataError(f"corpus {corpus.path}: holds no documents; give a file with rows")
    refused = Counter(dropped)
    for result in results:
        refused.update(result.refused)
    write_ids(store, plan.generation, np.concatenate([earlier, *ids]))
    content = {"parts": [[part.name, part.rows] for part in parts], "refused": dict(refused)}
    store.write(marker, json.dumps(content).encode())
    return Intake(tuple(parts), dict(refused))


def _read(
    store: Store,
    plan: Plan,
    corpus: CorpusSettings,
    encoder: EncoderSettings | None,
    progress: Callable[[str, int, int], None],
) -> list[SplitResult]:
    numbers = range(plan.first_split, plan.first_split + len(plan.splits))
    present = set(store.list("splits"))
    results = {n: _result(store, n) for n in numbers if _split_key(n) in present}
    task, at_once = _reader(plan)

    def submit(number: int) -> Any:
        split = plan.splits[number - plan.first_split]
        return task.remote(store, number, split, corpus, encoder, plan.partition_rows)

    progress("read", len(results), len(numbers))
    for number, result in completed(submit, [n for n in numbers if n not in results], at_once):
        results[number] = result
        progress("read", len(results), len(numbers))
    return [results[number] for number in numbers]


def _reader(plan: Plan) -> tuple[Any, int]:
    """Return the reading task, and how many may run at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
    task = ray.remote(num_cpus=1, max_retries=TRIES, scheduling_strategy="SPREAD")(read_split)
    local = [piece.url for split in plan.splits for piece in split if "://" not in piece.url]
    if not local or _seen_everywhere([local[0], local[-1]]):
        return task, 2 * cores
    # A file that only this machine has is read here, by as many processes as there are cores.
    here = On(ray.get_runtime_context().get_node_id(), soft=False)
    return task.options(num_cpus=0, scheduling_strategy=here), os.cpu_count() or 1


def _seen_everywhere(paths: Sequence[str]) -> bool:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    if len(nodes) < 2:
        return True
    look: Any = ray.remote(num_cpus=0)(lambda: all(os.access(path, os.R_OK) for path in paths))
    answers = [look.options(scheduling_strategy=On(node, soft=True)).remote() for node in nodes]
    return all(ray.get(answers))


def _check_refused(results: Sequence[SplitResult], corpus: CorpusSettings) -> None:
    refused = sum(sum(result.refused.values()) for result in results)
    rows = refused + sum(rows for result in results for _, rows in result.parts)
    if refused > corpus.refused_share * rows:
        examples = "; ".join([example for result in results for example in result.examples][:3])
        raise DataError(
            f"corpus {corpus.path}: {refused} of {rows} rows were refused, more than corpus.refused_share "
            f"{corpus.refused_share:g} allows: {examples}; mend them, or raise it"
        )


def _result(store: Store, number: int) -> SplitResult:
    data = json.loads(store.read(_split_key(number)))
    parts = tuple((name, rows) for name, rows in data["parts"])
    return SplitResult(parts, data["refused"], tuple(data["examples"]))


def _split_key(number: int) -> str:
    return f"splits/{number:05d}.json"


def _clear(store: Store, plan: Plan) -> None:
    first = f"{plan.first_split:05d}"
    for folder in ("splits", "documents", "vectors", "refused"):
        for key in store.list(folder):
            if key.rpartition("/")[2].removeprefix("part-")[:5] >= first:
                store.delete(key)
    for key in ("documents-{:06d}.json", "dropped-{:06d}.json", "ids-{:06d}.npy"):
        store.delete(key.format(plan.generation))
