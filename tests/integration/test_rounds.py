"""Methods in rounds with the scripted teacher and real students: what leaves and what is made up for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from cluster.errors import DataError
from cluster.ledger import read_ledger
from cluster.progress import Progress
from cluster.rundir import owned, read_run
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.rebuilding import rebuild
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.chaos.runs import LABELS, dataset, metrics, write_recipe
from tests.tiny_encoder import save_tiny_encoder

pytestmark = pytest.mark.usefixtures("ray_local")
NAMES = sorted(LABELS)
"""Labels in the order of the task, which YAML sorts."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_encoder(tmp_path_factory.mktemp("models") / "base"))


def student(base: str, **more: Any) -> dict[str, Any]:
    """A student that learns words in a second."""
    given = {"base": base, "epochs": 40, "batch_size": 8, "max_tokens": 24, "learning_rate": 3e-3}
    return given | more


def run(folder: Path, changes: Mapping[str, Any], task: Mapping[str, Any] = {}) -> tuple[int, Path]:
    """Run the synthesize job in this process with some keys changed; return its exit code and recipe."""
    path = write_recipe(folder, "run", 8, refuse=0, empty=0, repeat=0, cut_off=0)
    recipe = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**recipe, **changes, "task": {**recipe["task"], **task}}))
    plan = check(load_recipe(path))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within("run")
    with owned(store) as lease:
        return synthesize.run(Stage(plan, root, Progress(store), store, lease)), path


def gold(folder: Path, name: str) -> str:
    """Gold rows whose labels are not what their words say: a student of the teacher's rows errs."""
    texts, labels = list(LABELS.values()), list(LABELS)
    rows = [
        {"text": f"{name} row {number} is what {texts[place]} was like", "label": labels[place - 1]}
        for number in range(6)
        for place in range(len(labels))
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / f"{name}.jsonl")


def test_rows_that_the_data_map_drops_are_made_up_for(tmp_path: Path, base: str) -> None:
    mapped = {"student": student(base, epochs=2), "fraction": 0.75, "apply": "label"}
    code, _ = run(tmp_path, {"feedback": {"refills": 1, "student": student(base), "cartography": mapped}})
    told = metrics(tmp_path, "run")
    assert code == 0
    assert told["synthesis"]["rows"]["surplus"]["left_out"] == 6, "a quarter of eight rows a label"
    assert told["dataset"]["per_label"] == dict.fromkeys(LABELS, 8)
    table = pq.read_table(tmp_path / "store" / "run" / "data")
    assert sorted(table["round"].to_pylist()) == [0] * 18 + [1] * 6
    dropped = pq.read_table(tmp_path / "store/run/rounds/001/feedback/left_out.parquet")["row_id"]
    assert not set(dropped.to_pylist()) & set(table["id"].to_pylist())


def test_weights_choose_from_a_pool_and_go_with_the_rows(tmp_path: Path, base: str) -> None:
    small = {"outer_iterations": 2, "least_steps": 4, "embedding": 8, "hidden": 8}
    method = {"name": "sungen", "pool": 2, "min_words": 1}
    code, _ = run(tmp_path, {"method": method, "feedback": {"student": student(base), "weights": small}})
    assert code == 0
    weighed = pq.read_table(tmp_path / "store/run/rounds/001/feedback/weights.parquet")
    weight_of = dict(zip(*(weighed[name].to_pylist() for name in ("row_id", "weight")), strict=True))
    table = pq.read_table(tmp_path / "store" / "run" / "data")
    assert (len(weighed), len(table)) == (48, 24)
    assert table["weight"].to_pylist() == pytest.approx([weight_of[row] for row in table["id"].to_pylist()])
    pool = pq.read_table(tmp_path / "store" / "run" / "ledger").filter(pc.field("status") == "accepted")
    for label in LABELS:
        mine = [
            w for row in pool.to_pylist() if row["labels"] == [label] and (w := weight_of.get(row["row_id"]))
        ]
        kept = [w for w, place in zip(table["weight"].to_pylist(), table["label"].to_pylist(), strict=True)
                if NAMES[place] == label]  # fmt: skip
        assert sorted(kept) == pytest.approx(sorted(mine)[8:])


def test_errors_are_written_for_and_a_row_of_a_later_round_is_explained(tmp_path: Path, base: str) -> None:
    task = {"train": gold(tmp_path, "train"), "test": gold(tmp_path, "test")}
    method = {"name": "s3", "rationales": 0, "error_rounds": 1, "repeats": 3}
    code, _ = run(tmp_path, {"method": method, "feedback": {"student": student(base)}}, task)
    told = metrics(tmp_path, "run")["rounds"]
    assert code == 0
    assert [each["rows"] for each in told] == [18, 24]
    assert (told[1]["looked_at"], told[1]["lessons"]) == (18, ["errors"])
    assert told[0]["accuracy"] < 0.5 < told[1]["errors"] / 18
    wrong = pq.read_table(tmp_path / "store/run/rounds/001/feedback/errors.parquet").to_pylist()
    later = [row for row in pq.read_table(tmp_path / "store/run/data").to_pylist() if row["round"]]
    assert {row["seed_id"] for row in later} <= {row["id"] for row in wrong}
    shown = {row["id"]: row["label"] for row in wrong}
    assert [NAMES[row["label"]] for row in later] == [shown[row["seed_id"]] for row in later]
    store = LocalStore(tmp_path / "store" / "run")
    (row,) = (
        row for table in read_ledger(store) for row in table.to_pylist() if row["row_id"] == later[0]["id"]
    )
    made = rebuild(store, read_run(store), row)
    assert made.doubts == []
    assert made.hash == row["prompt_hashes"][0]


@pytest.mark.parametrize("why", ["alike", "nothing to look at"])
def test_a_run_whose_student_has_nothing_to_say_ends_with_what_it_has(
    tmp_path: Path, base: str, why: str
) -> None:
    task = {"train": gold(tmp_path, "train")}
    method = {"name": "s3", "rationales": 0, "error_rounds": 1, "repeats": 3}
    if why == "alike":
        lazy = student(base, epochs=1, learning_rate=1e-9)
        code, _ = run(tmp_path, {"method": method, "feedback": {"student": lazy}}, task)
        told = metrics(tmp_path, "run")
        assert code == 3
        assert "takes every row for" in told["rounds"][1]["ended"]
        assert all("takes every row for" in reason for reason in told["synthesis"]["stalled"].values())
        assert len(dataset(tmp_path, "run")) == 18
        # The same command with a student that learns goes on from there.
        code, _ = run(tmp_path, {"method": method, "feedback": {"student": student(base)}}, task)
        assert code == 0
        assert len(dataset(tmp_path, "run")) == 24
    else:
        task["test"] = task["train"]
        with pytest.raises(DataError, match=r"task\.train: holds no rows to look for errors in"):
            run(tmp_path, {"method": method, "feedback": {"student": student(base)}}, task)
