"""V-information in bits, and the pointwise V-information (PVI) of every row (2110.08420).

A student that reads the texts is compared with one that reads nothing: how many bits of the label do the
texts give away to a student of this kind?
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.storage import Store
from training.knowledge_settings import InformationSettings
from training.predict import predict_on_cluster
from training.student import train_student

FOLDER = "information"
"""Folder of both models in the run folder."""
_LEAST = float(np.finfo(np.float32).tiny)
_Z95 = 1.959963984540054
_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Information:
    """V-information of rows, in bits.

    bits is the mean PVI and interval its normal 95 % interval. text_entropy and null_entropy are the
    conditional V-entropies: the mean surprise, -log2 p(label), with text and without; bits is what the text
    takes from it. prior_entropy is the surprise of whoever knows only the training rows' label shares, which
    a null model should come to. per_label holds rows and mean PVI of each label.
    """

    rows: int
    bits: float
    interval: tuple[float, float]
    text_entropy: float
    null_entropy: float
    prior_entropy: float
    per_label: dict[str, dict[str, float]]
    warnings: tuple[str, ...]


def train_pair(
    rows: pa.Table, labels: Sequence[str], settings: InformationSettings, store: Store
) -> tuple[str, str]:
    """Train the student on the texts and on the null input; return both folders. Needs a Ray session."""
    keys = f"{FOLDER}/text", f"{FOLDER}/null"
    blank = pa.array([settings.null_text] * len(rows), pa.string())
    nothing = rows.set_column(rows.column_names.index("text"), "text", blank)
    for key, table in zip(keys, (rows, nothing), strict=True):
        own = settings.student.model_copy(update={"name": key.replace("/", "-")})
        train_student(table, labels, own, store, key)
    return keys


def measure(
    learned: pa.Table,
    measured: pa.Table,
    labels: Sequence[str],
    settings: InformationSettings,
    store: Store,
) -> tuple[Information, pa.Table]:
    """Train both models on the rows learned, measure the other rows, and return V-information and PVI.

    Both tables have the string columns id, text and label; the measured rows must not be among those
    learned, or memory counts as information (kawine/dataset_difficulty #4). See `information` for the rest.
    """
    with_text, without = train_pair(learned, labels, settings, store)
    given = predict_on_cluster(store, with_text, measured["text"].to_pylist())
    # Whatever the row, the null model reads the same: one forward pass serves all.
    null = predict_on_cluster(store, without, [settings.null_text])[0]
    names = learned["label"].to_pylist()
    prior = np.array([names.count(label) for label in labels]) / len(names)
    return information(measured, given, null, prior, labels)


def information(
    rows: pa.Table,
    given: npt.NDArray[np.floating[Any]],
    null: npt.NDArray[np.floating[Any]],
    prior: npt.NDArray[np.floating[Any]],
    labels: Sequence[str],
) -> tuple[Information, pa.Table]:
    """Return the V-information of rows (id, label) and their PVI, -log2 null[y] + log2 given[y], in bits.

    given is (rows, labels), null and prior (labels,); probabilities below float32's smallest count as that.
    The table has id, label, predicted, pvi, p and p_null (of the row's label), the lowest PVI first: those
    rows are the hardest or mislabelled.
    """
    names = rows["label"].to_pylist()
    places = np.array([list(labels).index(name) for name in names])
    own = given[np.arange(len(places)), places]
    predicted = given.argmax(axis=1)
    pvi = _log2(own) - _log2(null)[places]
    mean, spread = float(pvi.mean()), float(pvi.std(ddof=1)) if len(pvi) > 1 else math.inf
    half = _Z95 * spread / math.sqrt(len(pvi))
    found = Information(
        rows=len(pvi),
        bits=mean,
        interval=(mean - half, mean + half),
        text_entropy=float(-_log2(own).mean()),
        null_entropy=float(-_log2(null)[places].mean()),
        prior_entropy=float(-_log2(prior)[places].mean()),
        per_label={
            label: {"rows": int((places == i).sum()), "bits": float(pvi[places == i].mean())}
            for i, label in enumerate(labels)
            if (places == i).any()
        },
        warnings=(),
    )
    table = pa.table(
        {
            "id": rows["id"],
            "label": rows["label"],
            "predicted": np.asarray(labels)[predicted],
            "pvi": pvi,
            "p": own.astype(np.float32),
            "p_null": null[places].astype(np.float32),
        }
    ).sort_by([("pvi", "ascending"), ("id", "ascending")])
    return _warned(found, set(predicted.tolist()), labels), table


def _log2(probabilities: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    return np.log2(np.maximum(probabilities.astype(np.float64), _LEAST))


def _warned(found: Information, predicted: set[int], labels: Sequence[str]) -> Information:
    """Add what makes the figure doubtful."""
    uniform, warnings = math.log2(len(labels)), []
    if len(predicted) == 1:
        only = labels[next(iter(predicted))]
        warnings.append(f"the student answers {only!r} to every row: its PVI tells rows apart by label alone")
    if found.null_entropy > uniform + _TOLERANCE:
        warnings.append(
            f"the null model needs {found.null_entropy:.2f} bits a label where guessing needs {uniform:.2f}: "
            "the figure is that much too high; train longer or with a lower learning_rate"
        )
    elif found.null_entropy > found.prior_entropy + _TOLERANCE:
        warnings.append(
            f"the null model needs {found.null_entropy:.2f} bits a label where the label shares alone need "
            f"{found.prior_entropy:.2f}: it has not learned them, and the figure is that much too high"
        )
    if found.bits < 0:
        warnings.append("the student does worse with the texts than without: it has learned nothing usable")
    return replace(found, warnings=tuple(warnings))
