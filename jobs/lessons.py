"""The lessons of a round: students trained on the rows so far, and what each kind of lesson asks of them."""

import io
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.errors import NothingLearned
from jobs.evaluate import score_on_test
from jobs.learned import round_key
from jobs.stage import Stage, looked_at
from jobs.training_rows import dataset_rows, gold_table
from synth.method import Lesson, Round
from training.cartography import data_map
from training.checks import label_counts
from training.feedback import agreement, errors, influence, weights
from training.metrics.split import held_out
from training.predict import Probabilities, predict_on_cluster
from training.student import train_student

Taught = tuple[pa.Table, pa.Array]
"""A lesson's table, and the ids of rows that leave the dataset for it."""
NONE_LEAVE = pa.array([], pa.string())


class Class:
    """The rows so far and the students that learn from them; figures gather in `told`."""

    def __init__(self, stage: Stage, number: int, round: Round) -> None:
        self.stage = stage
        self.round = round
        self.rows = dataset_rows(stage)
        self.told: dict[str, Any] = {}
        self._folder = round_key(number)

    def taught(self) -> tuple[dict[str, pa.Table], pa.Array]:
        """Return the tables of all lessons, and the ids of rows that leave; NothingLearned says why not."""
        tables, leaving = dict[str, pa.Table](), [NONE_LEAVE]
        if self.round.lessons:
            self.check_labels(self.rows)
        for lesson in self.round.lessons:
            tables[lesson], out = _LESSONS[lesson](self)
            leaving.append(out)
        left_out = pc.unique(pa.concat_arrays(leaving))
        tables["rows"] = dataset_texts(self.stage, left_out)
        return tables, left_out

    @cached_property
    def student(self) -> str:
        """Folder of the student of all rows so far, which is scored on the gold test rows."""
        key = self.trained("student", self.rows)
        self.score(key)
        return key

    @cached_property
    def probabilities(self) -> Probabilities:
        """What the student says of the rows so far; NothingLearned when it is the same of all."""
        found = predict_on_cluster(self.stage.run, self.student, self.rows["text"].to_pylist())
        if (only := agreement.predicts_one(found, self.stage.task.labels)) is not None:
            raise NothingLearned(f"the student takes every row for {only}; give it more rows or epochs")
        return found

    def trained(self, name: str, rows: pa.Table) -> str:
        """Train the student of the recipe's `feedback` on rows, and return its folder."""
        key, settings = f"{self._folder}/{name}", self.stage.recipe.feedback.student
        self.stage.lease.renew(force=True)
        train_student(rows, self.stage.task.labels, settings, self.stage.run, key)
        return key

    def score(self, key: str) -> None:
        """Take note of a student's accuracy on the gold test rows; nothing is decided by it."""
        if self.stage.plan.test:
            self.told["accuracy"] = score_on_test(self.stage, key).accuracy

    def folder(self, name: str) -> str:
        """Return a folder of the round in the run folder."""
        return f"{self._folder}/{name}"

    def check_labels(self, rows: pa.Table) -> None:
        """Make sure that a student has something to learn from rows; NothingLearned says what is missing."""
        present = pc.unique(rows["label"]).to_pylist()
        if len(present) < 2:
            only = f"have the label {present[0]} alone" if present else "are none"
            raise NothingLearned(f"the rows so far {only}, so a student learns nothing from them")


def _errors(taught: Class) -> Taught:
    stage = taught.stage
    rows = {row.id: row for row in looked_at(stage.plan)}
    gold = gold_table(stage, rows.values())
    # That it tells its own rows apart is the least.
    _ = taught.probabilities
    found = predict_on_cluster(stage.run, taught.student, gold["text"].to_pylist())
    wrong = errors.errors(gold, found, stage.task.labels)
    taught.told |= {"looked_at": len(gold), "errors": len(wrong)}
    for name in stage.task.settings.fields:
        texts = [rows[row].fields[name] for row in wrong["id"].to_pylist()]
        wrong = wrong.append_column(name, pa.array(texts, pa.string()))
    if not len(wrong):
        raise NothingLearned(f"the student makes no error in {len(gold)} gold rows to go on from")
    return wrong, NONE_LEAVE


def _influence(taught: Class) -> Taught:
    stage, settings = taught.stage, taught.stage.recipe.feedback
    if max(label_counts(taught.rows, stage.task.labels).values()) < 2:
        raise NothingLearned("no label has two rows, of which one could tell how much the other helps")
    rows, held = held_out(taught.rows, stage.task.labels, settings.validation, settings.student.seed)
    key = taught.trained("student", rows)
    taught.score(key)
    labels = stage.task.labels
    found = influence.influence(stage.run, key, rows, held, labels, settings.influence, settings.student.seed)
    if not pc.any(pc.not_equal(found["influence"], 0)).as_py():
        raise NothingLearned("no row has influence: " + "; ".join(influence.warnings_of(found)))
    taught.told["warnings"] = list(influence.warnings_of(found))
    table = _with_ids(found).append_column("text", _texts(taught.rows, found["id"]))
    taught.told |= {"helpful": pc.sum(pc.less(table["influence"], 0)).as_py() or 0, "measured_on": len(held)}
    return table.sort_by("influence"), NONE_LEAVE


def _weights(taught: Class) -> Taught:
    stage, settings = taught.stage, taught.stage.recipe.feedback.weights
    if stage.plan.test:
        # Nothing is asked of it; how good the rows are unweighed is told.
        _ = taught.student
    key = taught.folder("weights")
    found = weights.weights_on_cluster(taught.rows, stage.task.labels, settings, stage.run, key)
    taught.told["mean_weight"] = pc.mean(found["weight"]).as_py()
    if not stage.recipe.method.weights_leave_out:
        return _with_ids(found), NONE_LEAVE
    return _with_ids(found), weights.leave_out(found, taught.rows, taught.round.targets)


def _agreement(taught: Class) -> Taught:
    found = agreement.agreement(taught.rows, _unseen(taught), taught.stage.task.labels)
    agreed = pc.sum(pc.equal(found["predicted"], taught.rows["label"])).as_py() or 0
    taught.told["agreeing"] = agreed
    # Documents of rows that leave are known as well as those of rows that stay.
    everything = dataset_texts(taught.stage, NONE_LEAVE)
    places = pc.index_in(found["id"], value_set=everything["row_id"].combine_chunks())
    found = found.append_column("document_ids", everything["document_ids"].take(places))
    return _with_ids(found), agreement.leave_out(found, taught.rows, taught.round.targets)


def _unseen(taught: Class) -> Probabilities:
    """Return what students say of rows that they have not learned: each of those of one fold."""
    found, count = taught.probabilities, taught.stage.recipe.feedback.folds
    if count == 1:
        return found
    places, unseen = agreement.folds(taught.rows, count), np.empty_like(found)
    for fold in range(count):
        rows = taught.rows.filter(pa.array(places != fold))
        taught.check_labels(rows)
        asked = np.flatnonzero(places == fold)
        texts = taught.rows["text"].take(pa.array(asked)).to_pylist()
        key = taught.trained(f"fold-{fold}", rows)
        unseen[asked] = predict_on_cluster(taught.stage.run, key, texts)
    return unseen


def _cartography(taught: Class) -> Taught:
    stage, settings = taught.stage, taught.stage.recipe.feedback.cartography
    key = taught.folder("cartography")
    stage.lease.renew(force=True)
    train_student(taught.rows, stage.task.labels, settings.student, stage.run, key)
    taught.score(key)
    dynamics = pq.read_table(io.BytesIO(stage.run.read(f"{key}/dynamics.parquet")))
    mapped = data_map(dynamics, settings)
    return _with_ids(mapped), mapped.filter(pc.invert(mapped["kept"]))["id"].combine_chunks()


_LESSONS: Mapping[Lesson, Callable[[Class], Taught]] = {
    "errors": _errors,
    "influence": _influence,
    "weights": _weights,
    "agreement": _agreement,
    "cartography": _cartography,
}


def dataset_texts(stage: Stage, left_out: pa.Array) -> pa.Table:
    """Return the rows of the dataset, but those left out: row_id, the task's fields, label, document_ids."""
    fields = list(stage.task.settings.fields)
    keys = [key for key in stage.run.list("data") if key.endswith(".parquet")]
    columns = ["id", *fields, "document_ids"]
    read = [pq.read_table(io.BytesIO(stage.run.read(key)), columns=columns) for key in keys]
    table = pa.concat_tables(read).replace_schema_metadata(None)
    table = table.append_column("label", dataset_rows(stage)["label"]).rename_columns({"id": "row_id"})
    return table.filter(pc.invert(pc.is_in(table["row_id"], value_set=left_out)))


def _with_ids(table: pa.Table) -> pa.Table:
    return table.rename_columns({"id": "row_id"})


def _texts(rows: pa.Table, ids: pa.ChunkedArray) -> pa.ChunkedArray:
    return rows["text"].take(pc.index_in(ids, value_set=rows["id"].combine_chunks()))
