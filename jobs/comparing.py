"""What one run of a comparison came to, and which differences between runs are more than luck."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cluster.rundir import read_metrics
from jobs.evaluate import predictions_of
from jobs.stage import Stage
from jobs.train import History, Pupil, pupils, read_history
from retrieval.tables import read_table
from synth.metrics.fisher import holm
from training.evaluate import spread_of
from training.metrics.significance import difference

Kind = Literal["method", "gold", "seeds", "teacher", "majority"]
Right = Mapping[str, float]
"""For the id of each gold test row the share of runs that labelled it rightly."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of the table: a method or a baseline, what its students score, and what it cost."""

    name: str
    kind: Kind
    run: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Rows, targets, tokens, seconds, and the figures of metrics."""
    students: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By student: accuracies of all runs, their mean and standard deviation, macro F1."""
    right: Mapping[str, Right] = field(default_factory=dict)
    """By student."""
    failed: str | None = None

    def told(self) -> dict[str, Any]:
        """Return the entry as JSON has it, without what each row's answer was."""
        shown: dict[str, Any] = {"name": self.name, "kind": self.kind, "run": self.run}
        return shown | {"facts": dict(self.facts), "students": dict(self.students), "failed": self.failed}


def failed(name: str, run: str, why: str, kind: Kind = "method") -> Entry:
    """Return the entry of a run that went wrong."""
    return Entry(name, kind, run, failed=why)


def cell(stage: Stage, name: str) -> Entry:
    """Return the entry of a method's run that is complete."""
    metrics = read_metrics(stage.run)
    synthesis, dataset = metrics.get("synthesis") or {}, metrics["dataset"]
    spent = [synthesis.get("prompt_tokens"), synthesis.get("reply_tokens")]
    # Nobody knows what the rows of another tool cost.
    tokens = sum(each or 0 for each in spent) if synthesis else None
    rows, replies = dataset["rows"], synthesis.get("rows") or {}
    facts = {
        "rows": rows,
        "target": sum(dataset["target"].values()),
        "accepted": replies.get("accepted"),
        "returned": replies.get("returned"),
        "tokens": tokens,
        "tokens_per_row": tokens / rows if rows and tokens is not None else None,
        "money": ((metrics.get("costs") or {}).get("money") or {}).get("total"),
        "seconds": synthesis.get("seconds"),
        "stopped": synthesis.get("stopped"),
        "stalled": sorted(synthesis.get("stalled") or {}),
        "quality": metrics.get("quality") or {},
    }
    scored = list(pupils(stage)) if rows and stage.recipe.students else []
    named = {pupil.settings.name: pupil for pupil in scored}
    return Entry(name, "method", stage.recipe.run, facts, *_students(stage, named))


def baseline_entries(stage: Stage) -> list[Entry]:
    """Return the entries of what methods are held against: gold rows, seeds, always the same label."""
    entries = []
    kinds: tuple[Literal["gold", "seeds"], ...] = ("gold", "seeds")
    for kind in kinds:
        found = [each for each in stage.recipe.students if each.rows.kind == kind]
        named = {each.name.removeprefix(f"{kind}-"): Pupil(each) for each in found}
        if named:
            rows = {"rows": _rows_of(stage, found[0].name)}
            entries.append(Entry(kind, kind, stage.recipe.run, rows, *_students(stage, named)))
    labels = [row.labels for row in stage.plan.test]
    if not labels:
        return entries
    most = max(set(labels), key=lambda each: (labels.count(each), each))
    told = {"accuracies": [labels.count(most) / len(labels)], "label": " + ".join(most)}
    return [*entries, Entry("majority class", "majority", stage.recipe.run, {}, {"": _spread(told)})]


def _rows_of(stage: Stage, student: str) -> int | None:
    scores = read_metrics(stage.run).get("students", {}).get(student, {})
    return scores.get("rows")


def _students(
    stage: Stage, named: Mapping[str, Pupil]
) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, float]]]:
    """Return what students score, and for each gold test row how many of their runs got it right."""
    metrics, told, right = read_metrics(stage.run).get("students", {}), {}, {}
    for name, pupil in named.items():
        scores = metrics[pupil.settings.name]
        runs = scores.get("runs") or {"accuracies": [scores["accuracy"]]}
        told[name] = _spread({"accuracies": runs["accuracies"], "macro_f1": scores["macro_f1"]})
        right[name] = _right(stage, pupil)
    return told, right


def _spread(told: dict[str, Any]) -> dict[str, Any]:
    accuracies = told["accuracies"]
    if len(accuracies) == 1:
        return told | {"mean": accuracies[0], "std": None}
    spread = spread_of(accuracies)
    return told | {"mean": spread.mean, "std": spread.std}


def _right(stage: Stage, pupil: Pupil) -> dict[str, float]:
    history = read_history(stage, pupil) if pupil.settings.runs > 1 else History("")
    tables = [
        read_table(stage.run, predictions_of(key), ["id", "right"])
        for _, key in pupil.runs(history.first is not None)
    ]
    shares = np.mean([table["right"].to_numpy() for table in tables], axis=0)
    return dict(zip(tables[0]["id"].to_pylist(), shares.tolist(), strict=True))


def significance(entries: Sequence[Entry]) -> dict[str, list[dict[str, Any]]]:
    """Return, for each student, how far each pair of entries is apart and whether that may be luck.

    Pairs are compared on the gold test rows that both labelled; the teacher, which has no students, stands
    beside each. p is corrected by Holm for all pairs of a student.
    """
    students = dict.fromkeys(name for entry in entries for name in entry.right if name)
    return {student: _pairs(entries, student) for student in students}


def _pairs(entries: Sequence[Entry], student: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    asked = [(entry.name, entry.right.get(student) or entry.right.get("")) for entry in entries]
    answered = [(name, right) for name, right in asked if right]
    for (one, of_one), (other, of_other) in combinations(answered, 2):
        shared = sorted(of_one.keys() & of_other.keys())
        if shared:
            apart = difference(_vector(of_one, shared), _vector(of_other, shared))
            pair = {"one": one, "other": other, "rows": len(shared)}
            found.append(pair | {"points": apart.points, "low": apart.low, "high": apart.high, "p": apart.p})
    if found:
        logs = np.log(np.array([float(pair["p"]) for pair in found]))
        corrected = holm(logs, len(found))
        for pair, p in zip(found, corrected.tolist(), strict=True):
            pair["p_corrected"] = p
    return found


def _vector(right: Right, ids: Sequence[str]) -> npt.NDArray[np.float64]:
    return np.array([right[id] for id in ids])
