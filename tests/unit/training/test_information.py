"""V-information: bits by hand, the null input, and what makes a figure doubtful."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from cluster.storage import LocalStore, Store
from training.knowledge_settings import InformationSettings
from training.metrics import information as module
from training.metrics.information import information, measure
from training.settings import StudentSettings

LABELS = ("yes", "no")
ROWS = pa.table({"id": ["a", "b", "c", "d"], "label": ["yes", "yes", "no", "no"]})
EVEN = np.array([0.5, 0.5])


def given(*of_yes: float) -> npt.NDArray[np.float32]:
    return np.array([[p, 1 - p] for p in of_yes], dtype=np.float32)


def test_bits_of_every_row_and_their_mean() -> None:
    found, table = information(ROWS, given(1, 0.5, 0.25, 0.875), EVEN, EVEN, LABELS)
    # -log2 0.5 + log2 p: 1, 0, log2 1.5, log2 0.25.
    expected = {"a": 1.0, "b": 0.0, "c": np.log2(1.5), "d": -2.0}
    assert table["id"].to_pylist() == ["d", "b", "c", "a"]
    np.testing.assert_allclose(table["pvi"].to_numpy(), [expected[i] for i in "dbca"], atol=1e-6)
    assert found.bits == pytest.approx(np.mean(list(expected.values())))
    assert found.bits == pytest.approx(found.null_entropy - found.text_entropy)
    assert found.null_entropy == found.prior_entropy == 1
    assert found.per_label["yes"] == {"rows": 2, "bits": pytest.approx(0.5)}
    half = 1.96 * np.std(list(expected.values()), ddof=1) / 2
    assert found.interval == pytest.approx((found.bits - half, found.bits + half), abs=1e-4)
    assert table["predicted"].to_pylist() == ["yes", "yes", "no", "yes"]


def test_a_probability_of_zero_costs_much_but_not_everything() -> None:
    found, table = information(ROWS, given(0, 1, 0, 0), EVEN, EVEN, LABELS)
    assert table["pvi"][0].as_py() == pytest.approx(-125)
    assert np.isfinite(found.bits)


@pytest.mark.parametrize(
    ("answers", "null", "prior", "expected"),
    [
        ((1, 0.9, 0.1, 0), [0.5, 0.5], [0.5, 0.5], None),
        ((1, 0.9, 0.8, 0.7), [0.5, 0.5], [0.5, 0.5], "answers 'yes' to every row"),
        ((1, 0.9, 0.1, 0), [0.9, 0.1], [0.5, 0.5], "where guessing needs 1.00"),
        ((0.4, 0.3, 0.5, 0.9), [0.5, 0.5], [0.5, 0.5], "worse with the texts than without"),
    ],
)
def test_doubts(
    answers: tuple[float, ...], null: list[float], prior: list[float], expected: str | None
) -> None:
    found, _ = information(ROWS, given(*answers), np.array(null), np.array(prior), LABELS)
    if expected is None:
        assert not found.warnings
    else:
        assert any(expected in warning for warning in found.warnings)


def test_a_null_model_that_did_not_learn_the_shares_is_told() -> None:
    rows = pa.table({"id": list("abcd"), "label": ["yes", "yes", "yes", "no"]})
    found, _ = information(rows, given(1, 1, 1, 0), EVEN, np.array([0.75, 0.25]), LABELS)
    assert any("label shares alone need 0.81" in warning for warning in found.warnings)


def test_the_null_model_reads_nothing_but_the_null_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, list[str]] = {}

    def train(
        rows: pa.Table, labels: Sequence[str], settings: StudentSettings, store: Store, key: str
    ) -> None:
        read[key] = rows["text"].to_pylist()
        assert (settings.name, settings.seed) == (key.replace("/", "-"), 1)

    def predict(store: Store, key: str, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        read[f"{key} at the end"] = list(texts)
        return given(*(1 if text == "yea" else 0 for text in texts)) if "text" in key else given(0.75)

    monkeypatch.setattr(module, "train_student", train)
    monkeypatch.setattr(module, "predict_on_cluster", predict)
    learned = pa.table({"id": list("pqrs"), "text": list("PQRS"), "label": ["yes", "yes", "yes", "no"]})
    measured = pa.table({"id": ["x", "y"], "text": ["yea", "nay"], "label": ["yes", "no"]})
    found, table = measure(learned, measured, LABELS, InformationSettings(), LocalStore(tmp_path))
    assert read == {
        "information/text": list("PQRS"),
        "information/null": ["\u200b"] * 4,
        "information/text at the end": ["yea", "nay"],
        "information/null at the end": ["\u200b"],
    }
    assert dict(zip(table["id"].to_pylist(), table["pvi"].to_pylist(), strict=True)) == pytest.approx(
        {"x": -np.log2(0.75), "y": 2.0}
    )
    assert found.prior_entropy == found.null_entropy
