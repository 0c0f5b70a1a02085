"""A judge over a whole run: what it says is kept, what it refuses made up for, what it costs counted."""

import json
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.errors import FingerprintError
from cluster.ledger import read_ledger
from cluster.progress import Progress
from cluster.rundir import owned, read_metrics
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.chaos.runs import LABELS, write_recipe

pytestmark = pytest.mark.usefixtures("ray_local")

OWN = "judge.teacher={backend: scripted, model: second}"
PRICES = ("limits.prices={prompt_million: 1}", "limits.judge_prices={prompt_million: 5}")


def run(folder: Path, *assignments: str) -> tuple[int, dict[str, Any]]:
    """Run the synthesize job in this process; return its exit code and metrics."""
    plan = check(load_recipe(write_recipe(folder, "run", 8, replicas=1), assignments))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within("run")
    with owned(store) as lease:
        code = synthesize.run(Stage(plan, root, Progress(store), store, lease))
    return code, read_metrics(store)


def test_rows_whose_label_the_judge_disputes_are_made_up_for(tmp_path: Path) -> None:
    given = ("judge.ask=relabel", OWN, "targets.ceiling=40", *PRICES)
    code, metrics = run(tmp_path, *given)
    assert code == 0 and metrics["dataset"]["per_label"] == dict.fromkeys(LABELS, 8)
    rows = metrics["synthesis"]["rows"]
    # One of three labels is drawn at random: it confirms about a third.
    assert rows["rejected"]["judge_label"] > rows["accepted"]
    kept = pq.read_table(tmp_path / "store" / "run" / "data")
    assert kept.num_rows == 24
    for verdicts, label in zip(kept["verdicts"].to_pylist(), kept["label"].to_pylist(), strict=True):
        assert json.loads(verdicts)["judge_label"] == sorted(LABELS)[label]
    tokens, money = metrics["costs"]["tokens"], metrics["costs"]["money"]
    assert tokens["judge_prompt"] > tokens["prompt"] > 0
    assert money["total"] == pytest.approx((tokens["prompt"] + 5 * tokens["judge_prompt"]) / 1e6)
    ledger = list(read_ledger(LocalStore(tmp_path / "store" / "run")))
    assert sum(pc.sum(part["judge_prompt_tokens"]).as_py() for part in ledger) == tokens["judge_prompt"]
    # Done is done; another judge is another run.
    again = run(tmp_path, *given)
    assert again[0] == 0 and again[1]["costs"]["tokens"] == tokens
    with pytest.raises(FingerprintError, match=r"judge\.then"):
        run(tmp_path, "judge.then=record", OWN)


def test_the_teacher_itself_can_score_and_only_record(tmp_path: Path) -> None:
    code, metrics = run(tmp_path, "judge.ask=score", "judge.then=record")
    assert code == 0 and not any(
        reason.startswith("judge") for reason in metrics["synthesis"]["rows"]["rejected"]
    )
    assert set(metrics["costs"]["tokens"]) == {"prompt", "reply"}
    kept = pq.read_table(tmp_path / "store" / "run" / "data")
    points = [json.loads(verdicts)["judge_points"] for verdicts in kept["verdicts"].to_pylist()]
    assert len(points) == 24 and {each[1:] for each in points} == {"/5"} and len(set(points)) > 1
