"""The gold rows that a student takes for another label: what S3 (2310.13671) writes more rows from."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from training.feedback.agreement import agreement


def errors(gold: pa.Table, probabilities: npt.NDArray[np.float32], labels: Sequence[str]) -> pa.Table:
    """Return the columns id, label, predicted and probability of the misclassified rows, in gold's order.

    gold has id and label; probabilities (rows, labels) are a student's, labels in its order. probability is
    that of the gold label. DataError names a label that the student does not know.
    """
    told = agreement(gold, probabilities, labels)
    table = told.add_column(1, "label", gold["label"])
    return table.filter(pc.not_equal(table["predicted"], table["label"]))
