from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.storage import LocalStore
from training.checks import checked_rows, label_ids
from training.dataset import TokenisedTexts, TrainingRows
from training.held_out import held_out
from training.loop import fit
from training.records import TrainingJob
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place
from training.worker import _dynamics, _report, assembled

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
LABELS = ("a", "b")


class Lookup(torch.nn.Module):
    """Has logits of its own for every token; the first token of a text decides."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Embedding(20, 2)
        torch.nn.init.zeros_(self.logits.weight)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits(input_ids[:, 0]))


def test_report_and_dynamics_tell_of_the_rows_that_were_not_held_out(tmp_path: Path) -> None:
    table = checked_rows(
        pa.table({"text": [f"text {n}" for n in range(20)], "label": [LABELS[n % 2] for n in range(20)]}),
        LABELS,
        "s",
    )
    # What is learnt of a row says nothing of another, so the loss of those held out never falls.
    settings = StudentSettings(
        name="s", base="b", epochs=9, learning_rate=0.1, validation=0.2, patience=2, keep="best"
    )
    targets = label_ids(table, LABELS)
    texts = TokenisedTexts(np.arange(20, dtype=np.int32), np.arange(21), pad_id=0)
    held = held_out(targets, settings.validation, settings.seed)
    now = Training(Lookup(), TrainingRows(texts, targets), settings, Place(torch.device("cpu")), held=held)
    fit(now, lambda _: None)

    job = TrainingJob(LABELS, settings, "b", "r", LocalStore(tmp_path), "students/s", "f")
    report = _report(job, now, resumed_after=0, seconds=1.0)
    assert (report.rows, report.validation_rows, report.steps, report.strategy) == (16, 4, 3, "torch")
    assert len(report.losses) == len(report.validation_losses) == len(report.validation_accuracies) == 3
    assert report.kept_epoch == 1
    assert report.train_accuracy == float(now.history.correct[0].float().mean())

    dynamics = _dynamics(table, now)
    assert dynamics["epoch"].to_pylist() == [1] * 16 + [2] * 16 + [3] * 16
    expected = [name for place, name in enumerate(table["id"].to_pylist()) if place not in held]
    assert dynamics["id"].to_pylist() == expected * 3
    kept = now.weights()
    assert kept is not None
    assert torch.equal(assembled(now.model, kept).logits.weight, kept["logits.weight"])
