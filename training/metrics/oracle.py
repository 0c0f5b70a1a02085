"""Label preservation: how many rows a classifier trained on gold rows takes for what they should be.

The oracle is chosen by a grid search (SynthesizRR 2405.10040, section 7 and appendix K.3).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cluster.models import resolve_model
from cluster.settings import digest
from cluster.storage import Store
from training.checks import rows_digest
from training.evaluate import score, wilson
from training.knowledge_settings import OracleSettings
from training.metrics.split import held_out
from training.predict import predict_on_cluster
from training.settings import StudentSettings
from training.student import train_student

FOLDER = "oracle"
"""Folder of the oracle's models in the run folder."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trained model and its scores; test is None where the gold test rows were not looked at."""

    name: str
    learning_rate: float
    batch_size: int
    seed: int
    validation: float
    validation_loss: float
    test: float | None = None


@dataclass(frozen=True, slots=True)
class Oracle:
    """The chosen model, in folder `key` of the run, and everything it was chosen from."""

    key: str
    trials: tuple[Trial, ...]
    finals: tuple[Trial, ...]
    chosen: Trial
    rows: int
    validation_rows: int
    test_rows: int

    def accuracy(self, chosen_by: str) -> dict[str, Any]:
        """Return its share of gold rows taken right, with Wilson's interval, on rows that did not choose it.

        Those are the gold test rows, unless there are none or they chose; then it is the validation rows,
        which chose too and so flatter it a little.
        """
        tested = self.chosen.test is not None and chosen_by != "test"
        share = self.chosen.test if tested and self.chosen.test is not None else self.chosen.validation
        rows = self.test_rows if tested else self.validation_rows
        low, high = wilson(round(share * rows), rows)
        on = "gold test rows" if tested else "validation rows, which chose it"
        return {"share": share, "low": low, "high": high, "rows": rows, "on": on}


@dataclass(frozen=True, slots=True)
class Bench:
    """What every model of the search learns from, and where it is kept."""

    learn: pa.Table
    validation: pa.Table
    test: pa.Table | None
    labels: tuple[str, ...]
    store: Store


def train_oracle(
    gold: pa.Table, test: pa.Table | None, labels: Sequence[str], settings: OracleSettings, store: Store
) -> Oracle:
    """Search the grid on a part of the gold rows, train the final models and choose one of them.

    gold and test have the string columns id, text and label. The best point of the grid has the highest
    accuracy on the validation rows, then the lowest loss; the final models differ in their seeds. Only the
    chosen model's weights are kept; a search that was cut short goes on. Needs a Ray session.
    """
    learn, validation = held_out(gold, labels, settings.validation, settings.split_seed)
    bench = Bench(learn, validation, test, tuple(labels), store)
    trials = [_trial(bench, student, keep=False) for student in _grid(settings)]
    students = _finals(settings, max(trials, key=_by_validation))
    finals = [_trial(bench, student, keep=True) for student in students]
    published = settings.choose == "test" and test is not None
    chosen = max(finals, key=_by_test if published else _by_validation)
    for student in students:
        key = f"{FOLDER}/{student.name}"
        if student.name == chosen.name:
            # It is there, unless an earlier evaluation chose another one and left only that.
            train_student(learn, labels, student, store, key)
        else:
            store.delete(key)
    return Oracle(
        key=f"{FOLDER}/{chosen.name}",
        trials=tuple(trials),
        finals=tuple(finals),
        chosen=chosen,
        rows=len(learn),
        validation_rows=len(validation),
        test_rows=len(test) if test is not None else 0,
    )


def _grid(settings: OracleSettings) -> list[StudentSettings]:
    return [
        settings.student.model_copy(
            update={"name": f"grid-{rate:g}-{size}", "learning_rate": rate, "batch_size": size}
        )
        for rate, size in product(settings.learning_rates, settings.batch_sizes)
    ]


def _finals(settings: OracleSettings, best: Trial) -> list[StudentSettings]:
    point = {"learning_rate": best.learning_rate, "batch_size": best.batch_size}
    # Not the seed of the grid, whose luck with the validation rows has been drawn already.
    first = settings.student.seed + 1
    return [
        settings.student.model_copy(update=point | {"name": f"final-{number}", "seed": first + number})
        for number in range(settings.models)
    ]


def _by_validation(trial: Trial) -> tuple[float, float]:
    return trial.validation, -trial.validation_loss


def _by_test(trial: Trial) -> tuple[float, float, float]:
    return trial.test or 0.0, *_by_validation(trial)


def _trial(bench: Bench, student: StudentSettings, keep: bool) -> Trial:
    """Train and score a model, or return the scores that it got in an earlier attempt."""
    key, record = f"{FOLDER}/{student.name}", f"{FOLDER}/{student.name}.json"
    identity = digest(_identity(bench, student))
    if bench.store.exists(record):
        earlier = json.loads(bench.store.read(record))
        if earlier["identity"] == identity:
            return Trial(**earlier["trial"])
    train_student(bench.learn, bench.labels, student, bench.store, key)
    accuracy, loss = _scores(bench, key, bench.validation)
    trial = Trial(
        name=student.name,
        learning_rate=student.learning_rate,
        batch_size=student.batch_size,
        seed=student.seed,
        validation=accuracy,
        validation_loss=loss,
        # The grid is never chosen by the gold test rows, so it does not see them.
        test=_scores(bench, key, bench.test)[0] if keep and bench.test is not None else None,
    )
    bench.store.write(record, json.dumps({"identity": identity, "trial": asdict(trial)}, indent=1).encode())
    if not keep:
        bench.store.delete(key)
    return trial


def _identity(bench: Bench, student: StudentSettings) -> list[Any]:
    revision = resolve_model(student.base).revision
    tables = [table for table in (bench.learn, bench.validation, bench.test) if table is not None]
    return [[rows_digest(table) for table in tables], list(bench.labels), student.identity(), revision]


def _scores(bench: Bench, key: str, rows: pa.Table) -> tuple[float, float]:
    probabilities = predict_on_cluster(bench.store, key, rows["text"].to_pylist())
    names = rows["label"].to_pylist()
    places = np.array([bench.labels.index(name) for name in names])
    own = probabilities[np.arange(len(places)), places].astype(np.float64)
    loss = -np.log(np.maximum(own, np.finfo(np.float32).tiny)).mean()
    return score(names, probabilities, bench.labels).accuracy, float(loss)


def label_preservation(
    rows: pa.Table, probabilities: npt.NDArray[np.floating[Any]], labels: Sequence[str]
) -> tuple[dict[str, Any], pa.Table]:
    """Compare rows (id, label) with the oracle's (rows, labels) probabilities.

    Returns the share of rows that the oracle takes for their own label, overall and per label with Wilson's
    95 % interval, and a table of the others: id, label, predicted, p (of the predicted label), p_label (of
    the row's own), the surest disagreement first.
    """
    names = np.asarray(rows["label"].to_pylist())
    best = probabilities.argmax(axis=1)
    predicted = np.asarray(labels)[best]
    preserved = predicted == names
    found = {
        "rows": len(rows),
        **_share(preserved),
        "per_label": {
            label: {"rows": int((names == label).sum()), **_share(preserved[names == label])}
            for label in labels
            if (names == label).any()
        },
    }
    own = np.array([list(labels).index(name) for name in names])
    every = np.arange(len(rows))
    table = pa.table(
        {
            "id": rows["id"],
            "label": rows["label"],
            "predicted": predicted,
            "p": probabilities[every, best].astype(np.float32),
            "p_label": probabilities[every, own].astype(np.float32),
        }
    )
    others = table.filter(pa.array(~preserved))
    return found, others.sort_by([("p", "descending"), ("id", "ascending")])


def _share(preserved: npt.NDArray[np.bool_]) -> Mapping[str, float]:
    low, high = wilson(int(preserved.sum()), len(preserved))
    return {"preserved": float(preserved.mean()), "low": low, "high": high}
