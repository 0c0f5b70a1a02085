"""Weights of rows (SunGen 2205.12679): learned here or in a task on the cluster, and what they leave out."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError, NightshiftError, RunError
from cluster.settings import digest
from cluster.storage import Store
from training.checks import checked_rows, rows_digest, several_labels
from training.feedback.settings import WeightSettings
from training.launch import scratch_of

if TYPE_CHECKING:
    from training.feedback.bilevel import State

_NAME = "weights"
_TRIES = 10
"""How often the task is tried anew when its worker or node dies."""


def weights(
    rows: pa.Table,
    labels: Sequence[str],
    settings: WeightSettings,
    progress: Callable[[int, int], None] | None = None,
) -> pa.Table:
    """Return the columns id and weight (float64, 0 to 1), in the order of rows.

    rows has the columns text, label and id, with one label a row. Computed in this process, on the GPU if
    there is one; on CPUs the same rows give the same weights, bit for bit and in whatever order they come.
    progress is told after each outer iteration how many of how many are done.
    Errors: DataError; RunError when the model's loss is not finite, WeightsVanished.
    """
    given, ordered = _checked(rows, labels)
    total = settings.outer_iterations

    def told(state: "State") -> None:
        if progress is not None:
            progress(state.iteration, total)

    return _in_order_of(given, ordered, _weighed(ordered, labels, settings, None, told))


def weights_on_cluster(
    rows: pa.Table, labels: Sequence[str], settings: WeightSettings, store: Store, key: str
) -> pa.Table:
    """Run `weights` as a Ray task, on a GPU if there is one, that goes on where a lost one stopped.

    The state is kept in the hidden folder beside `key` while it is needed: a driver that died goes on, too,
    when it asks for the weights of the same rows by the same settings. Errors: as `weights`.
    """
    import ray

    from training.placement import placement

    given, ordered = _checked(rows, labels)
    scratch = scratch_of(key)
    fingerprint = digest([rows_digest(ordered), list(labels), settings.identity()])
    kept = f"{scratch}/{fingerprint}.safetensors"
    if not store.exists(kept):
        store.delete(scratch)
    place = placement(1, settings.batch_size)
    task = ray.remote(_weigh_there).options(num_cpus=place.cpus, num_gpus=place.gpus, max_retries=_TRIES)
    running = task.remote(ordered, tuple(labels), settings, store, kept, place.cpus)
    try:
        outcome: npt.NDArray[np.float64] | NightshiftError = ray.get(running)
    except BaseException:
        # Only one that still runs: to cancel a task whose result is there can end the process.
        ray.cancel(running, force=False)
        raise
    store.delete(scratch)
    if isinstance(outcome, NightshiftError):
        raise outcome
    return _in_order_of(given, ordered, outcome)


def leave_out(weighed: pa.Table, rows: pa.Table, targets: Mapping[str, int]) -> pa.Array:
    """Return the ids of the rows that leave, in the order of rows, so that each label keeps its heaviest.

    weighed has the columns id and weight, rows id and label. Of a label in targets so many rows stay, among
    equals those with the smaller ids; of other labels all do. Errors: RunError for a row without a weight.
    """
    ids = rows["id"].cast(pa.string()).combine_chunks()
    where = pc.index_in(ids, value_set=weighed["id"].cast(pa.string()).combine_chunks())
    if where.null_count:
        row = ids[pc.indices_nonzero(where.is_null())[0].as_py()]
        raise RunError(f"weights: row {row} has none; weigh all rows of the dataset anew")
    values = weighed["weight"].to_numpy()[where.to_numpy()]
    names, owners = np.asarray(ids.to_pylist(), dtype=np.str_), rows["label"].to_pylist()
    leaving = np.zeros(len(ids), dtype=bool)
    for label, count in targets.items():
        members = np.flatnonzero([owner == label for owner in owners])
        order = members[np.lexsort((names[members], -values[members]))]
        leaving[order[count:]] = True
    return ids.filter(pa.array(leaving))


def _checked(rows: pa.Table, labels: Sequence[str]) -> tuple[pa.Table, pa.Table]:
    """Return the rows as they are checked, and ordered by id, so that their order decides nothing."""
    if "id" not in rows.column_names:
        raise DataError("rows to weigh: have no column 'id'; give each row one of its own")
    given = checked_rows(rows.select(["id", "text", "label"]), labels, _NAME)
    if several_labels(given):
        raise DataError("rows to weigh: have several labels each; weights need rows with one label")
    ordered = given.sort_by("id").combine_chunks()
    ids = ordered["id"].combine_chunks()
    twice = pc.indices_nonzero(pc.equal(ids[1:], ids[:-1]))
    if len(twice):
        row = ids[twice[0].as_py()]
        raise DataError(f"rows to weigh: two have the id {row}; ids must tell rows apart")
    return given, ordered


def _in_order_of(given: pa.Table, ordered: pa.Table, found: npt.NDArray[np.float64]) -> pa.Table:
    where = pc.index_in(given["id"], value_set=ordered["id"].combine_chunks()).to_numpy()
    return pa.table({"id": given["id"], "weight": pa.array(found[where], pa.float64())})


def _weigh_there(
    rows: pa.Table, labels: Sequence[str], settings: WeightSettings, store: Store, kept: str, cpus: int
) -> npt.NDArray[np.float64] | NightshiftError:
    """Weigh rows in a task; an error on purpose is a result, which Ray would wrap otherwise."""
    import torch

    from training.feedback.bilevel import State

    torch.set_num_threads(cpus)
    last = time.monotonic()

    def keep(state: "State") -> None:
        nonlocal last
        if time.monotonic() - last >= settings.checkpoint_seconds:
            store.write(kept, state.packed())
            last = time.monotonic()

    try:
        before = State.unpacked(store.read(kept)) if store.exists(kept) else None
        return _weighed(rows, labels, settings, before, keep)
    except NightshiftError as error:
        return error


def _weighed(
    rows: pa.Table,
    labels: Sequence[str],
    settings: WeightSettings,
    state: "State | None",
    after: Callable[["State"], None],
) -> npt.NDArray[np.float64]:
    """Take the outer iterations that are left, calling after when one is done; return the weights."""
    from training.feedback.bilevel import first_state, outer_step
    from training.feedback.text_problem import text_problem

    problem = text_problem(rows, labels, settings)
    state = first_state(len(rows)) if state is None else state
    while state.iteration < settings.outer_iterations:
        state = outer_step(problem, state, settings)
        after(state)
    # The last theta is what counts: no gold row could tell of a better one.
    found: npt.NDArray[np.float64] = state.weights.numpy()
    return found
