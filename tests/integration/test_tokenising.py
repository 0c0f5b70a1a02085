from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray

from cluster.storage import LocalStore
from training.dataset import TokenisedBlocks
from training.learner import new_reader
from training.records import TrainingJob
from training.settings import StudentSettings
from training.tokenising import prepared, texts_of

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ROWS = 20_000
WORDS = ["soup", "rocket", "goal", "orbit", "butter", "striker", "comet", "garlic", "stadium", "planet"]


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    settings = StudentSettings(name="many", preset="minilm", max_tokens=12)
    return TrainingJob(
        labels=("a", "b"),
        settings=settings,
        base=settings.base,
        revision="",
        store=LocalStore(tmp_path),
        key="students/many",
        fingerprint="many",
    )


def test_many_rows_are_tokenised_in_order_and_lie_in_shared_memory(
    ray_local: str, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(WORDS, random.integers(1, 15))) + f" {n}" for n in range(ROWS)]
    table = pa.table({"id": [str(n) for n in range(ROWS)], "text": texts, "label": ["a"] * ROWS})
    monkeypatch.setattr("training.tokenising._FILE_ROWS", 4096)
    ready = prepared(job, table, job.store.within(".many-training"))
    light = ray.get(ready.rows)
    assert light.column_names == ["id", "label"]

    reader = new_reader(job)
    found, plain = texts_of(ready, light, reader), reader(texts)
    assert isinstance(found, TokenisedBlocks)
    assert len(found.blocks) > 1
    np.testing.assert_array_equal(found.lengths(), plain.lengths())
    np.testing.assert_array_equal(np.concatenate([_used(block) for block in found.blocks]), plain.tokens)
    assert all(_in_object_store(block.tokens) for block in found.blocks)


def test_few_rows_are_left_to_the_workers(ray_local: str, job: TrainingJob) -> None:
    table = pa.table({"id": ["0", "1"], "text": ["some soup", "a goal"], "label": ["a", "b"]})
    ready = prepared(job, table, job.store.within(".many-training"))
    assert ready.blocks == ()
    assert texts_of(ready, ray.get(ready.rows), new_reader(job)).lengths().tolist() == [4, 4]


def _used(block: object) -> np.ndarray:
    return block.tokens[block.starts[0] : block.starts[-1]]  # type: ignore[attr-defined]


def _in_object_store(values: np.ndarray) -> bool:
    """Say whether an array lies in memory that this process maps from Ray's object store."""
    address = values.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(part, 16) for part in line.split()[0].split("-"))
        if start <= address < end:
            return "plasma" in line
    return False
