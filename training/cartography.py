"""Dataset cartography: what training dynamics say of every row, and which rows are kept (2009.10795)."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError, RunError
from training.knowledge_settings import CARTOGRAPHY_PRESETS, CartographySettings

MAP = "data_map.parquet"
"""Where a run keeps its data map: one row per row of the dataset, in its order."""


def data_map(dynamics: pa.Table, settings: CartographySettings) -> pa.Table:
    """Return the columns id, label, confidence, variability, correctness and kept, one row per trained row.

    dynamics is a student's `dynamics.parquet`: id, label, epoch, probability (of the row's label), correct.
    confidence is the mean and variability the population standard deviation (ddof 0) of the probability
    over the epochs, correctness the share of epochs in which the row was right (2009.10795, section 2).
    """
    last = dynamics.filter(pc.equal(dynamics["epoch"], pc.max(dynamics["epoch"])))
    probability, correct = _by_epoch(dynamics, last)
    table = pa.table(
        {
            "id": last["id"],
            "label": last["label"],
            "confidence": probability.mean(axis=0),
            "variability": probability.std(axis=0, ddof=0),
            "correctness": correct.mean(axis=0),
        }
    )
    return table.append_column("kept", pa.array(_kept(table, settings), pa.bool_()))


def filtered(rows: pa.Table, mapped: pa.Table) -> pa.Table:
    """Return the rows without those that the map drops; rows that are not on the map, such as seeds, stay."""
    dropped = mapped.filter(pc.invert(mapped["kept"]))["id"]
    return rows.filter(pc.invert(pc.is_in(rows["id"], value_set=dropped.combine_chunks())))


def map_summary(mapped: pa.Table, settings: CartographySettings) -> dict[str, Any]:
    """Return the figures of a data map as JSON: means, what is kept, and what either preset would keep."""
    names = ("confidence", "variability", "correctness")
    kept = mapped.filter(mapped["kept"])
    dropped = mapped.filter(pc.invert(mapped["kept"]))
    chosen = {"axis": settings.axis, "side": settings.side, "fraction": settings.fraction}
    return {
        "rows": len(mapped),
        "kept": len(kept),
        "filter": chosen | {"apply": settings.apply},
        "kept_per_label": _label_counts(kept),
        "dropped_per_label": _label_counts(dropped),
        "mean": {name: pc.mean(mapped[name]).as_py() for name in names},
        "mean_of_dropped": {name: pc.mean(dropped[name]).as_py() for name in names},
        "never_correct": pc.sum(pc.equal(mapped["correctness"], 0)).as_py(),
        "presets": _presets(mapped),
    }


def _by_epoch(dynamics: pa.Table, last: pa.Table) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return probability and correctness as (epochs, rows), rows in the order of the last epoch."""
    epochs, ids = sorted(pc.unique(dynamics["epoch"]).to_pylist()), last["id"].combine_chunks()
    if len(pc.unique(ids)) < len(ids):
        twice = next(row["values"] for row in pc.value_counts(ids).to_pylist() if row["counts"] > 1)
        raise DataError(f"data map: two rows have the id {twice!r}; ids must tell rows apart")
    lines: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
    for epoch in epochs:
        part = dynamics.filter(pc.equal(dynamics["epoch"], epoch))
        order = pc.index_in(ids, value_set=part["id"].combine_chunks())
        if len(part) != len(ids) or order.null_count:
            raise RunError(
                f"data map: epoch {epoch} observed other rows than the last; train the student anew"
            )
        probability = part["probability"].cast(pa.float64()).to_numpy()
        correct = part["correct"].cast(pa.float64()).to_numpy()
        where = order.to_numpy()
        lines.append((probability[where], correct[where]))
    return np.stack([line[0] for line in lines]), np.stack([line[1] for line in lines])


def _kept(table: pa.Table, settings: CartographySettings) -> npt.NDArray[np.bool_]:
    """Mark the rows with the highest or lowest values of the axis; among equals the smaller ids are kept."""
    ids = np.asarray(table["id"].to_pylist())
    values = table[settings.axis].to_numpy() * (-1 if settings.side == "top" else 1)
    kept = np.zeros(len(table), dtype=bool)
    for members in _groups(table, settings):
        order = members[np.lexsort((ids[members], values[members]))]
        # Never by Python's round, which takes halves to the even number.
        count = max(1, math.floor(settings.fraction * len(members) + 0.5))
        kept[order[:count]] = True
    return kept


def _groups(table: pa.Table, settings: CartographySettings) -> list[npt.NDArray[np.int64]]:
    if settings.apply == "overall":
        return [np.arange(len(table))]
    if not pa.types.is_string(table["label"].type):
        raise DataError("cartography: rows with several labels have no one label; set apply: overall")
    codes = table["label"].combine_chunks().dictionary_encode().indices.to_numpy()
    return [np.flatnonzero(codes == code) for code in np.unique(codes)]


def _label_counts(table: pa.Table) -> dict[str, int]:
    labels = table["label"]
    if pa.types.is_list(labels.type):
        labels = pc.list_flatten(labels)
    return {str(row["values"]): row["counts"] for row in pc.value_counts(labels).to_pylist()}


def _presets(mapped: pa.Table) -> dict[str, Any]:
    """Return what both published filters would keep, and what share of the rows both keep."""
    if not pa.types.is_string(mapped["label"].type):
        return {}
    masks = {
        name: _kept(mapped, CartographySettings.model_validate({"preset": name}))
        for name in CARTOGRAPHY_PRESETS
    }
    found: dict[str, Any] = {name: _seen_by(mapped, mask) for name, mask in masks.items()}
    both = np.logical_and.reduce(list(masks.values()))
    return found | {"kept_by_both": int(both.sum())}


def _seen_by(mapped: pa.Table, mask: npt.NDArray[np.bool_]) -> Mapping[str, Any]:
    kept = mapped.filter(pa.array(mask))
    return {"kept": len(kept), "mean_confidence": pc.mean(kept["confidence"]).as_py()}
