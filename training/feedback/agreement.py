"""Whether a student takes rows for the label that they carry, and which rows leave where it does not.

ReGen (2305.10703) filters what it retrieved in this way; its published code writes down what the student
says and leaves the rule open: here a row stays if its own label is the likeliest.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.errors import DataError
from cluster.settings import digest


def agreement(rows: pa.Table, probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> pa.Table:
    """Return the columns id, predicted and probability (of the row's own label), one row per row.

    rows has id and label; probabilities (rows, labels) are a student's, labels in its order. Of labels that
    are equally likely the first is predicted. DataError names a label that the student does not know.
    """
    own = pc.index_in(rows["label"], value_set=pa.array(labels, pa.string())).combine_chunks()
    if own.null_count:
        unknown = rows["label"].filter(pc.is_null(own))[0].as_py()
        known = ", ".join(labels)
        raise DataError(f"agreement: the student does not know the label {unknown!r} but {known}")
    each = np.arange(len(rows))
    predicted = pa.array(probabilities.argmax(axis=1), pa.int64())
    table = {
        "id": rows["id"],
        "predicted": pa.array(labels, pa.string()).take(predicted),
        "probability": pa.array(probabilities[each, own.to_numpy(zero_copy_only=False)], pa.float32()),
    }
    return pa.table(table)


def leave_out(agreed: pa.Table, rows: pa.Table, targets: Mapping[str, int]) -> pa.Array:
    """Return the ids of the rows that leave, in their order.

    Those leave that the student takes for another label; of the others of a label, those beyond its target
    that are least probable, of equals those with the greater ids. agreed is what `agreement` says of rows, in
    any order; a label without a target keeps all its rows. DataError for a row that agreed does not have.
    """
    order = pc.index_in(rows["id"], value_set=agreed["id"].combine_chunks())
    if order.null_count:
        unasked = rows["id"].filter(pc.is_null(order))[0].as_py()
        raise DataError(f"agreement: the student was not asked about row {unasked!r}; ask it about all rows")
    told = agreed.take(order)
    leaves = pc.not_equal(told["predicted"], rows["label"]).to_numpy()
    ranked = pa.table(
        {"probability": told["probability"], "id": rows["id"], "place": pa.array(np.arange(len(rows)))}
    ).filter(pa.array(~leaves))
    best = ranked.sort_by([("probability", "descending"), ("id", "ascending")])["place"].to_numpy()
    own = rows["label"].combine_chunks()
    for label, target in targets.items():
        of_label = pc.equal(own, label).to_numpy(zero_copy_only=False)
        leaves[best[of_label[best]][target:]] = True
    return rows["id"].combine_chunks().filter(pa.array(leaves))


def folds(rows: pa.Table, count: int) -> npt.NDArray[np.int64]:
    """Return the fold of each row, from 0, so that students can judge rows that they have not learned.

    A student agrees with nearly every row that it was trained on, wrong or not. rows has id and label; each
    label's rows are dealt out in an order that only their ids decide, so folds hardly differ in size.
    """
    ids, labels = rows["id"].to_pylist(), rows["label"].to_pylist()
    order = sorted(range(len(ids)), key=lambda place: (labels[place], digest(ids[place])))
    dealt = np.empty(len(ids), dtype=np.int64)
    dealt[np.array(order, dtype=np.int64)] = np.arange(len(ids)) % count
    return dealt


def predicts_one(probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> str | None:
    """Return the label that a student gives to every text; None if it tells texts apart.

    probabilities has shape (texts, labels). With fewer than two texts there is nothing to tell apart.
    """
    predicted = probabilities.argmax(axis=1)
    if len(predicted) < 2 or (predicted != predicted[0]).any():
        return None
    return labels[int(predicted[0])]
