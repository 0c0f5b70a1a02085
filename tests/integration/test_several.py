"""Several trainings as one job: side by side, each what it would be by itself, and one error for all."""

from pathlib import Path

import pyarrow as pa
import pytest

from cluster.errors import ModelError
from cluster.storage import LocalStore
from tests.tiny_encoder import save_tiny_encoder
from training.settings import StudentSettings
from training.several import Wanted, train_all

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LABELS = ("food", "space")
ROWS = pa.table(
    {
        "text": [f"The {word} of number {n}." for n in range(8) for word in ("soup", "rocket")],
        "label": [label for _ in range(8) for label in LABELS],
    }
)


def student(base: str, seed: int, **values: object) -> StudentSettings:
    given = {"name": f"s{seed}", "base": base, "epochs": 1, "batch_size": 8, "max_tokens": 16, "seed": seed}
    return StudentSettings.model_validate(given | values)


def test_trainings_side_by_side_are_those_of_one_by_one_and_one_error_ends_them(
    ray_local: str, tmp_path: Path
) -> None:
    store, base = LocalStore(tmp_path / "store"), save_tiny_encoder(tmp_path / "base")
    wanted = [Wanted(student(base, seed), ROWS, f"runs/{seed}") for seed in (0, 1)]
    reports = {report.name: report for report in train_all(wanted, LABELS, store, at_once=2)}
    assert set(reports) == {"s0", "s1"}
    assert {(report.rows, report.reused) for report in reports.values()} == {(16, False)}
    assert len({report.losses for report in reports.values()}) == 2
    # By itself, what is there is taken as it is: it is the same student.
    assert [report.reused for report in train_all(wanted, LABELS, store, at_once=1)] == [True, True]
    wrong = Wanted(student(str(tmp_path / "nowhere"), 2), ROWS, "runs/2")
    with pytest.raises(ModelError, match="there is no such folder"):
        list(train_all([wanted[0], wrong], LABELS, store, at_once=2))
    assert not store.exists("runs/2/manifest.json")
