"""The judge of storms is judged: whatever is wrong with a run's ledger or counts, it says so."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from cluster.progress import Progress
from cluster.rundir import owned
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from tests.chaos.runs import write_recipe
from tests.chaos.verdict import judge

SEEDS = 30
GUILTY = "seed 3 of sports"


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "store" / "stormy" / "ledger").glob("part-*.parquet"))


def lose(folder: Path) -> None:
    """Leave out one item of a part."""
    table = pq.read_table(parts(folder)[0])
    first = table["item_id"][0].as_py()
    pq.write_table(table.filter(pc.not_equal(table["item_id"], first)), parts(folder)[0])


def double(folder: Path) -> None:
    """Write a part's items once more, as the next part of the same epoch."""
    last = parts(folder)[-1]
    number = int(last.stem.rpartition("-")[2]) + 1
    shutil.copy(parts(folder)[0], last.with_name(f"part-000001-{number:06d}.parquet"))


def alter(folder: Path) -> None:
    """Change the text of one row."""
    edit(folder, "text", lambda text: "another text")


def fail(folder: Path) -> None:
    """Set an innocent item aside."""
    edit(folder, "status", lambda status: "failed")


def move(folder: Path) -> None:
    """Give an item a place that the plan has not for it."""
    edit(folder, "position", lambda position: position + 1)


def miscount(folder: Path) -> None:
    """Tell of an item too many."""
    path = folder / "store" / "stormy" / "metrics.json"
    told = json.loads(path.read_text())
    told["synthesis"]["items"]["drawn"] += 1
    path.write_text(json.dumps(told))


def edit(folder: Path, name: str, change: Callable[..., object]) -> None:
    """Change one value in the first accepted row of the first part."""
    table = pq.read_table(parts(folder)[0])
    row = table["status"].to_pylist().index("accepted")
    values = table[name].to_pylist()
    values[row] = change(values[row])
    column = pa.array(values, table.schema.field(name).type)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), parts(folder)[0])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, ray_local: str) -> Path:
    """Two runs of one plan, in both of which one prompt raises."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("calm", "stormy"):
        plan = check(load_recipe(write_recipe(folder, name, SEEDS, SEEDS, raise_on=GUILTY)))
        root = LocalStore(Path(plan.recipe.store))
        store = root.within(name)
        with owned(store) as lease:
            assert synthesize.run(Stage(plan, root, Progress(store), store, lease)) == 0
    return folder


def test_a_run_in_order_has_no_defects(runs: Path) -> None:
    verdict = judge(runs, "stormy", "calm", {"raise_on": GUILTY})
    assert verdict.defects() == {}
    assert verdict.failed > 0


@pytest.mark.parametrize(
    ("harm", "defects"),
    [
        (lose, {"lost", "unbalanced"}),
        (double, {"doubled"}),
        (alter, {"different"}),
        (fail, {"wronged", "unbalanced"}),
        (move, {"strangers", "different"}),
        (miscount, {"unbalanced"}),
    ],
)
def test_every_harm_is_seen(
    tmp_path: Path, runs: Path, harm: Callable[[Path], None], defects: set[str]
) -> None:
    folder = tmp_path / "runs"
    shutil.copytree(runs, folder)
    harm(folder)
    assert judge(folder, "stormy", "calm", {"raise_on": GUILTY}).defects().keys() == defects


def test_poison_that_was_let_through_is_seen(runs: Path) -> None:
    assert "spared" in judge(runs, "stormy", "calm", {"raise_on": "seed 4 of science"}).defects()
