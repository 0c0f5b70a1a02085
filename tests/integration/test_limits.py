"""Targets and limits over whole runs: clean stops, valid datasets, never more than a limit allows."""

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import pytest
from datasets import load_dataset

from cluster.progress import Progress
from cluster.rundir import owned, read_metrics
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.chaos.runs import dataset, write_recipe

pytestmark = pytest.mark.usefixtures("ray_local")

SLOW = {"seconds": 0.3, "in_flight": 8, "replicas": 2, "num_cpus": 0.5}


def run(folder: Path, *assignments: str, **teacher: Any) -> tuple[int, dict[str, Any]]:
    """Run the synthesize job in this process; return its exit code and metrics."""
    plan = check(load_recipe(write_recipe(folder, "run", 50, **teacher), assignments))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within("run")
    with owned(store) as lease:
        code = synthesize.run(Stage(plan, root, Progress(store), store, lease))
    return code, read_metrics(store)


def test_tokens_are_never_exceeded_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    code, metrics = run(tmp_path, "limits.tokens=1500", **SLOW)
    tokens = metrics["costs"]["tokens"]
    assert (code, metrics["synthesis"]["stopped"][:13]) == (3, "limits.tokens")
    assert 1000 < tokens["prompt"] + tokens["reply"] <= 1500
    rows = load_dataset(str(tmp_path / "store" / "run"))["train"].num_rows
    assert 0 < rows == len(dataset(tmp_path, "run")) < 150
    # The same limit again: at most a call or two fit into what two replicas had left between them.
    code, again = run(tmp_path, "limits.tokens=1500", **SLOW)
    assert code == 3 and sum(tokens.values()) <= sum(again["costs"]["tokens"].values()) <= 1500
    code, whole = run(tmp_path, "limits.tokens=1_000_000", **SLOW)
    assert (code, "stopped" in whole["synthesis"]) == (0, False)
    assert whole["dataset"]["per_label"] == dict.fromkeys(("sports", "politics", "science"), 50)


def test_a_dataset_is_the_same_whether_or_not_limits_cut_it_short_in_between(tmp_path: Path) -> None:
    (tmp_path / "calm").mkdir()
    (tmp_path / "cut").mkdir()
    assert run(tmp_path / "calm")[0] == 0
    for tokens in (600, 1800, 3500):
        assert run(tmp_path / "cut", f"limits.tokens={tokens}", **SLOW)[0] == 3
    assert run(tmp_path / "cut")[0] == 0
    assert dataset(tmp_path / "cut", "run") == dataset(tmp_path / "calm", "run")


def test_money_counts_tokens_and_accumulates_over_sittings(tmp_path: Path) -> None:
    prices = "limits.prices={prompt_million: 1, reply_million: 2}"
    assert run(tmp_path, prices, "limits.money=0.001", **SLOW)[0] == 3
    code, metrics = run(tmp_path, prices, "limits.money=0.002", **SLOW)
    money, tokens = metrics["costs"]["money"], metrics["costs"]["tokens"]
    assert code == 3 and 0.001 < money["total"] <= 0.002
    assert money["total"] == pytest.approx((tokens["prompt"] + 2 * tokens["reply"]) / 1e6)
    spent = json.loads((tmp_path / "store" / "run" / "spending.json").read_text())["amounts"]
    assert spent["money"] == pytest.approx(money["total"])


def test_a_deadline_ends_the_run_with_what_there_is(tmp_path: Path) -> None:
    end = time.time() + 8
    moment = dt.datetime.fromtimestamp(end, dt.UTC).isoformat()
    code, metrics = run(tmp_path, f"limits.deadline={moment}", "targets.rows_per_label=5000", **SLOW)
    assert code == 3 and end - 2 < time.time() < end + 20
    assert "deadline" in metrics["synthesis"]["stopped"]
    assert metrics["dataset"]["rows"] > 0


def test_hours_accumulate_over_sittings(tmp_path: Path) -> None:
    for _ in range(2):
        code, metrics = run(tmp_path, "limits.hours=0.002", "targets.rows_per_label=5000", **SLOW)
        assert code == 3
    assert 0.002 <= metrics["costs"]["hours"] < 0.004


def test_rows_are_shared_out_as_the_distribution_says(tmp_path: Path) -> None:
    shares = "{sports: 5, politics: 3, science: 2}"
    code, metrics = run(
        tmp_path, "targets.rows_per_label=null", "targets.rows=80", f"targets.distribution={shares}"
    )
    assert (code, metrics["dataset"]["per_label"]) == (0, {"sports": 40, "politics": 24, "science": 16})


def test_a_label_that_stalls_is_named_and_the_others_are_filled(tmp_path: Path) -> None:
    targets = "targets.rows_per_label={sports: 400, politics: 5, science: 0}"
    code, metrics = run(tmp_path, targets, "targets.ceiling=1", refuse=0.5)
    assert (code, set(metrics["synthesis"]["stalled"])) == (3, {"sports", "politics"})
    assert "the ceiling is 400" in metrics["synthesis"]["stalled"]["sports"]
    assert metrics["dataset"]["per_label"]["science"] == 0
