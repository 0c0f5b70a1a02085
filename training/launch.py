"""Running workers under Ray Train, so that a lost worker or driver costs a checkpoint interval."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cluster.errors import NightshiftError, RunError
from cluster.storage import Store, arrow_place

if TYPE_CHECKING:
    from training.placement import Placement

_MAX_FAILURES = 3


@dataclass(frozen=True, slots=True)
class Launch:
    """A training to run: whose it is, in words of a message, and where its checkpoints lie."""

    name: str
    store: Store
    scratch: str
    """Folder of the store for checkpoints; those of an earlier attempt with this fingerprint are used."""
    fingerprint: str

    def begin(self) -> None:
        """Remove what trainings with other fingerprints left in the scratch folder."""
        if not self.store.exists(f"{self.scratch}/{self.fingerprint}"):
            self.store.delete(self.scratch)

    def end(self) -> None:
        """Remove the scratch folder of a training that is done and saved."""
        self.store.delete(self.scratch)


def scratch_of(key: str) -> str:
    """Return the scratch folder of what will lie in a folder of the store."""
    folder, _, name = key.rpartition("/")
    return f"{folder}/.{name}-training".lstrip("/")


def launch(
    work: Callable[[dict[str, Any]], Any], config: dict[str, Any], place: "Placement", run: Launch
) -> Any:
    """Run work(config) on the workers of a place and return what the first of them returned.

    work takes part in a torch.distributed group and is called again, from the last checkpoint, when a worker
    was lost or the number of workers changed. A NightshiftError that it returns is raised. Errors: RunError.
    """
    from ray.train import TrainingFailedError

    # Students of a demo train for seconds: the default of two seconds between polls would be felt.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    # An autoscaler or a large image takes its time: Ray's minute is for neither.
    os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
    try:
        with _own_interrupts():
            outcome = _trainer(work, config, place, run).fit().return_value
    except TrainingFailedError as error:
        raise RunError(f"{run.name}: training failed: {_cause(error)}") from error
    if isinstance(outcome, NightshiftError):
        raise outcome
    if outcome is None:
        raise RunError(f"{run.name}: training ended without a report")
    return outcome


def _trainer(
    work: Callable[[dict[str, Any]], Any], config: dict[str, Any], place: "Placement", run: Launch
) -> Any:
    """Return the Ray Train trainer; its name finds the checkpoints of a driver that died."""
    from ray.train import CheckpointConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    filesystem, path = arrow_place(run.store.within(run.scratch))
    return TorchTrainer(
        work,
        train_loop_config=config,
        scaling_config=ScalingConfig(
            num_workers=place.workers,
            use_gpu=place.gpus > 0,
            resources_per_worker={"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {}),
        ),
        run_config=RunConfig(
            name=run.fingerprint,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=_MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Give Ctrl-C back to its former handler, which Ray Train replaces and never restores."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
