"""What became of a ledger row: in the dataset and where, or not in it and why."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.ledger import read_ledger
from cluster.presence import last_sitting
from cluster.rundir import read_run
from cluster.storage import Store

_PLACED = ("row_id", "status", "round", "position", "piece", "labels", "text_hash")
_CHANCE = 1 / 256
"""Share of equal bytes in two signatures that have nothing to do with each other."""
_MARGIN = 0.01
"""What rounding may take from the likeness of a pair."""


def verdict_of(store: Store, row: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Say in words what became of a row."""
    status = row["status"]
    if status == "rejected":
        return f"rejected: {row['reason']}"
    if status == "failed":
        return f"failed: {row['reason']}"
    if status != "accepted":
        return f"{status}: a reply that the method asked for before it planned"
    keys = store.list("data")
    for key in keys:
        with store.open(key) as file:
            ids = pq.read_table(file, columns=["id"])["id"]
        if (number := pc.index(ids, row["row_id"]).as_py()) >= 0:
            return f"accepted, in the dataset: {key}, row {number}"
    return f"accepted, {_surplus(store, row, metrics, keys)}"


def _surplus(store: Store, row: Mapping[str, Any], metrics: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Say why an accepted row is not in the dataset, as its curation judged."""
    sitting = last_sitting(store)
    if sitting is not None and sitting.alive:
        return "not in the dataset yet: it is put together when the run ends"
    if not keys:
        return "not in the dataset, which is not made yet: the same command goes on and makes it"
    accepted = pa.concat_tables(_accepted(store)).combine_chunks()
    counted = ((metrics.get("synthesis") or {}).get("rows") or {}).get("accepted")
    if counted != accepted.num_rows:
        return "not in the dataset, which was made before this row: the same command makes it anew"
    earlier = _before(accepted, row)
    kept = earlier.filter(pc.is_in(earlier["row_id"], _kept_ids(store, keys)))
    target = (metrics.get("dataset") or {}).get("target")
    if isinstance(target, Mapping) and all(_count(kept, label) >= target[label] for label in row["labels"]):
        return f"surplus: over target, {' and '.join(row['labels'])} was full before its turn in the plan"
    twin = kept.filter(pc.field("text_hash") == row["text_hash"])["row_id"].to_pylist()
    if twin:
        return f"surplus: duplicate of {twin[0]}"
    told = (metrics.get("dataset") or {}).get("surplus") or {}
    if "near_duplicate" in told and (near := _nearest(store, row, kept)) is not None:
        return f"surplus: near duplicate of {near[0]}, {near[1]:.0%} alike"
    if "semantic_duplicate" in told:
        return "surplus: semantic duplicate, its embedding is too near that of a row before it in the plan"
    return f"surplus; reasons in this run are {', '.join(told) or 'not recorded'}"


def _accepted(store: Store) -> list[pa.Table]:
    return [table.filter(pc.field("status") == "accepted") for table in read_ledger(store, _PLACED)]


def _before(rows: pa.Table, row: Mapping[str, Any]) -> pa.Table:
    """Return the rows that stand before a row in the plan, in the order of the plan."""
    earlier = pc.field("round") < row["round"]
    same = pc.field("round") == row["round"]
    earlier |= same & (pc.field("position") < row["position"])
    earlier |= same & (pc.field("position") == row["position"]) & (pc.field("piece") < row["piece"])
    return rows.filter(earlier)


def _kept_ids(store: Store, keys: Sequence[str]) -> pa.Array:
    ids = []
    for key in keys:
        with store.open(key) as file:
            ids += pq.read_table(file, columns=["id"])["id"].chunks
    return pa.concat_arrays([pa.array([], pa.string()), *ids])


def _count(rows: pa.Table, label: str) -> int:
    """Count the rows that have a label."""
    return int(pc.sum(pc.equal(pc.list_flatten(rows["labels"]), label)).as_py() or 0)


def _nearest(store: Store, row: Mapping[str, Any], kept: pa.Table) -> tuple[str, float] | None:
    """Return the kept row whose MinHash signature agrees most with a row's, and how alike the texts are."""
    mine = row.get("signature")
    resolved = read_run(store).get("resolved") or {}
    least = (resolved.get("filters") or {}).get("near_duplicates")
    if not mine or least is None:
        return None
    best: tuple[str, float] | None = None
    try:
        for table in read_ledger(store, ("row_id", "signature")):
            table = table.filter(pc.is_in(table["row_id"], kept["row_id"].combine_chunks()))
            table = table.filter(pc.equal(pc.binary_length(table["signature"]), len(mine)))
            if not table.num_rows:
                continue
            theirs = np.frombuffer(b"".join(table["signature"].to_pylist()), np.uint8).reshape(-1, len(mine))
            equal = (theirs == np.frombuffer(mine, np.uint8)).mean(axis=1)
            alike = float((equal.max() - _CHANCE) / (1 - _CHANCE))
            if alike >= least - _MARGIN and (best is None or alike > best[1]):
                best = table["row_id"][int(equal.argmax())].as_py(), alike
    except StorageError:
        return None  # Parts of an older version have no signatures.
    return best
