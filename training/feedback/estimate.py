"""The tasks that influence is estimated by: one direction for all rows, then each row's slope along it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from cluster.errors import ModelError, NightshiftError
from cluster.storage import Store
from training.feedback.differentials import Direction, LossSurface
from training.feedback.judgement import Judge, saved_judge
from training.feedback.lissa import inverse_curvature, length
from training.feedback.settings import InfluenceSettings

Arrays = dict[str, npt.NDArray[np.floating[Any]]]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every task is told: the student's folder in the store, and how to look at it."""

    store: Store
    key: str
    labels: tuple[str, ...]
    settings: InfluenceSettings
    cpus: int
    seed: int

    def judge(self) -> Judge:
        """Load the student. Errors: DataError, ModelError."""
        torch.set_num_threads(self.cpus)
        return saved_judge(self.store.fetch(self.key), self.labels, self.settings)


def direction_there(
    bench: Bench, rows: pa.Table, validation: pa.Table
) -> tuple[Arrays, tuple[str, ...] | NightshiftError]:
    """Return H^-1 grad L_validation by parameter, and warnings; or an error on purpose in their place."""
    try:
        return _direction(bench.judge(), bench, rows, validation)
    except NightshiftError as error:
        return {}, error


def slopes_there(
    bench: Bench, rows: pa.Table, start: int, end: int, direction: Arrays
) -> npt.NDArray[np.float64] | NightshiftError:
    """Return the influence of some of the rows, (end - start,), or an error on purpose."""
    try:
        judge = bench.judge()
        along = {name: torch.tensor(value, device=judge.device) for name, value in direction.items()}
        return _slopes(judge.surface(rows.slice(start, end - start)), along, end - start, bench.settings)
    except NightshiftError as error:
        return error


def _direction(
    judge: Judge, bench: Bench, rows: pa.Table, validation: pa.Table
) -> tuple[Arrays, tuple[str, ...]]:
    answers, warnings = judge.answers(validation), list[str]()
    if len(answers) == 1:
        warnings.append(f"the student answers {answers.pop()!r} to every validation row")
    vector: Direction = judge.validation(validation, bench.settings).gradient(np.arange(len(validation)))
    if length(vector) == 0:
        warnings.append(
            "the student is so sure of every validation row that no row has influence: train it for fewer "
            "epochs, or with a lower learning_rate"
        )
    else:
        vector = _bent(judge.surface(rows), len(rows), vector, bench)
    return {name: value.cpu().numpy() for name, value in vector.items()}, tuple(warnings)


def _bent(surface: LossSurface, rows: int, vector: Direction, bench: Bench) -> Direction:
    try:
        return inverse_curvature(surface, np.arange(rows), vector, bench.settings, bench.seed)
    except RuntimeError as error:
        if "not implemented" not in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"influence: the student has an operation without second derivatives ({reason}); "
            "set parameters: head, or take a student of another base"
        ) from error


def _slopes(
    surface: LossSurface, direction: Direction, rows: int, settings: InfluenceSettings
) -> npt.NDArray[np.float64]:
    every = np.arange(rows)
    if length(direction) == 0:
        return np.zeros(rows)
    forward = settings.derivative == "forward"
    if settings.derivative == "auto":
        forward = surface.runs_forward(every, direction)
    values = -surface.slopes(every, direction, forward).detach().double()
    found: npt.NDArray[np.float64] = values.cpu().numpy()
    return found
