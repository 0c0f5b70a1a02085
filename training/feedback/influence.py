"""Influence: how much each training row helps or harms a student's loss on validation rows.

ProGen (2210.12329), after Koh and Liang (1703.04730). What is computed is in `estimate`, `differentials` and
`lissa`; here it is shared out over the cluster.
"""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.errors import DataError, NightshiftError
from cluster.storage import Store
from training.checks import checked_rows
from training.feedback.settings import InfluenceSettings

if TYPE_CHECKING:
    from training.placement import Placement

_WARNINGS = b"warnings"
_LEAST_ROWS = 64
"""Rows of a shard by default: fewer are done before the next student would be loaded."""


def influence(
    store: Store,
    key: str,
    rows: pa.Table,
    validation: pa.Table,
    labels: Sequence[str],
    settings: InfluenceSettings,
    seed: int = 0,
) -> pa.Table:
    """Return the influence of training rows on a student's validation loss: id, label, influence (float64).

    rows and validation have the columns text and label, and perhaps id, in place of which a row's position
    serves; the trained student lies in folder `key` of the store. The influence of a row z is
    -grad L(z) . H^-1 grad L_validation: negative helps, and leaving z out of n rows changes the validation
    loss by about -influence / n. The table is in the order of rows; where these are more than `most_rows`
    it has those that were drawn. Values do not depend on the rows' order, and on the number of tasks but for
    rounding. `warnings_of` says what makes them doubtful; a student that validation cannot move, because it
    is sure of every row, gives all rows 0. Needs a Ray session.
    Errors: DataError, ModelError, SettingsError.
    """
    table, judged = _checked(rows, validation, labels)
    examined = _drawn(table, settings, seed)
    chosen = table.take(pa.array(examined))
    values, warnings = _estimated(store, key, chosen, judged, labels, settings, seed)
    found = chosen.select(["id", "label"]).append_column("influence", pa.array(values, pa.float64()))
    metadata = {_WARNINGS: json.dumps(warnings).encode()}
    return found.take(pa.array(np.argsort(examined))).replace_schema_metadata(metadata)


def warnings_of(table: pa.Table) -> tuple[str, ...]:
    """Return what makes the values of a table of influence doubtful, in words for the user."""
    return tuple(json.loads((table.schema.metadata or {}).get(_WARNINGS, b"[]")))


def _checked(rows: pa.Table, validation: pa.Table, labels: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Return the rows (id, text, label) and the validation rows (text, label)."""
    for table, what in ((rows, "training rows"), (validation, "validation rows")):
        if table.num_rows == 0:
            raise DataError(f"influence: there are no {what}; more rows are needed before this round")
    table = checked_rows(rows, labels, "feedback")
    # Validation rows of a single label are no mistake, though a student cannot learn from such.
    plain = [
        part.select(["text", "label"]).cast(table.select(["text", "label"]).schema)
        for part in (table, validation)
    ]
    both = checked_rows(pa.concat_tables(plain), labels, "feedback")
    return table, both.slice(len(table)).select(["text", "label"])


def _drawn(table: pa.Table, settings: InfluenceSettings, seed: int) -> npt.NDArray[np.int64]:
    """Return the positions of the rows to examine, in an order that depends on what they say alone."""
    said = list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
    order = np.array(sorted(range(len(said)), key=lambda row: said[row]), dtype=np.int64)
    if len(order) <= settings.most_rows:
        return order
    random = np.random.default_rng(seed)
    return order[np.sort(random.choice(len(order), settings.most_rows, replace=False))]


def _estimated(
    store: Store,
    key: str,
    rows: pa.Table,
    validation: pa.Table,
    labels: Sequence[str],
    settings: InfluenceSettings,
    seed: int,
) -> tuple[npt.NDArray[np.float64], tuple[str, ...]]:
    """Return the influence of rows, (rows,), and warnings."""
    import ray

    from training.feedback.estimate import Bench, direction_there, slopes_there

    place, shards = _places(len(rows), settings)
    bench = Bench(store, key, tuple(labels), settings, place.cpus, seed)
    taken = {"num_cpus": place.cpus, "num_gpus": place.gpus}
    shared = ray.put(rows)
    # As large as the student, the direction goes from task to task and never through the driver.
    direction, outcome = (
        ray.remote(direction_there).options(num_returns=2, **taken).remote(bench, shared, validation)
    )
    warnings: tuple[str, ...] = _result(ray.get(outcome))
    task = ray.remote(slopes_there).options(**taken)
    cuts = [len(rows) * cut // shards for cut in range(shards + 1)]
    parts = [task.remote(bench, shared, *ends, direction) for ends in pairwise(cuts)]
    return np.concatenate([_result(part) for part in ray.get(parts)]), warnings


def _places(rows: int, settings: InfluenceSettings) -> "tuple[Placement, int]":
    """Return what each task takes of the cluster, and how many share out the rows."""
    import ray

    from training.placement import placement

    gpus = int(ray.cluster_resources().get("GPU", 0))
    nodes = sum(node["Alive"] for node in ray.nodes())
    # Without GPUs a task has all processors of a node to do; two of them would only share these.
    shards = settings.shards or min(gpus or nodes, math.ceil(rows / _LEAST_ROWS))
    return placement(1, rows, math.ceil(shards / (gpus or nodes))), min(shards, rows)


def _result(outcome: Any) -> Any:
    """Return what a task gave; an error on purpose comes as a result, which Ray would wrap otherwise."""
    if isinstance(outcome, NightshiftError):
        raise outcome
    return outcome
