"""Weights of rows learned in a task on a cluster: the same as in this process, and nothing is left behind."""

import pyarrow as pa
import pytest
import torch

from cluster.errors import RunError
from cluster.settings import digest
from cluster.storage import LocalStore
from training.checks import rows_digest
from training.feedback.settings import WeightSettings
from training.feedback.weights import _checked, weights, weights_on_cluster
from training.launch import scratch_of

# Ray warns of its own deprecated settings when its modules are first imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LABELS = ("food", "sport")
KEY = "rounds/001/feedback/weights"
ROWS = pa.table(
    {
        "id": [f"r{row}" for row in range(12)],
        "text": [("a hot soup", "a late goal")[row % 2] + " again" * (row % 3) for row in range(12)],
        "label": [LABELS[row % 2] for row in range(12)],
    }
)


def settings(**values: float) -> WeightSettings:
    small = {"embedding": 8, "hidden": 8, "batch_size": 4, "least_steps": 3, "outer_iterations": 4}
    return WeightSettings.model_validate(small | values)


def state_key(chosen: WeightSettings) -> str:
    _, ordered = _checked(ROWS, LABELS)
    return f"{scratch_of(KEY)}/{digest([rows_digest(ordered), list(LABELS), chosen.identity()])}.safetensors"


def test_a_task_learns_the_same_weights(ray_local: str, store: LocalStore) -> None:
    chosen = settings(checkpoint_seconds=0)

    found = weights_on_cluster(ROWS, LABELS, chosen, store, KEY)

    here = weights(ROWS, LABELS, chosen)
    assert found["id"].to_pylist() == here["id"].to_pylist()
    # But for rounding: the task may have more threads.
    assert found["weight"].to_pylist() == pytest.approx(here["weight"].to_pylist(), rel=1e-4)
    assert not store.exists(scratch_of(KEY))


def test_a_task_goes_on_from_the_state_of_one_that_was_lost(ray_local: str, store: LocalStore) -> None:
    from training.feedback.bilevel import State

    chosen = settings()
    theta = torch.linspace(-1, 1, len(ROWS), dtype=torch.float64)
    store.write(state_key(chosen), State(theta, theta * 0, theta * 0, 4).packed())

    found = weights_on_cluster(ROWS, LABELS, chosen, store, KEY)

    _, ordered = _checked(ROWS, LABELS)
    by_id = dict(zip(ordered["id"].to_pylist(), theta.sigmoid().tolist(), strict=True))
    assert found["weight"].to_pylist() == [by_id[row] for row in ROWS["id"].to_pylist()]
    assert not store.exists(scratch_of(KEY))


def test_an_error_comes_back_as_it_was_raised(ray_local: str, store: LocalStore) -> None:
    from training.feedback.bilevel import State

    chosen = settings()
    broken = torch.full((len(ROWS),), float("nan"), dtype=torch.float64)
    store.write(state_key(chosen), State(broken, broken * 0, broken * 1, 3).packed())

    with pytest.raises(RunError, match=r"loss of iteration 4 .* lower feedback\.weights\.learning_rate"):
        weights_on_cluster(ROWS, LABELS, chosen, store, KEY)

    assert not store.exists(scratch_of(KEY))


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("run"))
