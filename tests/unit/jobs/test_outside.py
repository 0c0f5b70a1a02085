"""Rows of another tool become the dataset of a run: read, labelled, numbered, and never mixed up."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cluster.errors import DataError, FingerprintError, SettingsError
from cluster.rundir import update_metrics
from jobs.outside import take_in
from jobs.recipe import load_recipe
from jobs.stage import check
from jobs.training_rows import dataset_rows
from tests.unit.jobs.outside_rows import (
    NAMES,
    PAIRS,
    ROWS,
    TASK,
    Row,
    as_csv,
    jsonl,
    parquet,
    saved,
    stage,
    taken,
    told,
    without_ids,
)


@pytest.mark.parametrize(
    ("name", "write"), [("rows.jsonl", jsonl), ("rows.csv", as_csv), ("rows.parquet", parquet)]
)
def test_rows_are_taken_as_they_are_from_every_format(
    tmp_path: Path, name: str, write: Callable[[Path], Path]
) -> None:
    rows = taken(tmp_path, write(tmp_path / name))
    assert without_ids(rows) == ROWS
    # The same rows have the same ids, whatever they are kept in.
    assert [row["id"] for row in rows] == [
        row["id"] for row in taken(tmp_path / "other", jsonl(tmp_path / "o.jsonl"))
    ]
    metrics = told(tmp_path)
    assert (metrics["rows"], metrics["per_label"]) == (3, {"World": 2, "Sports": 1})
    assert (metrics["mean_words"], metrics["refused"]) == (4.0, {})
    assert metrics["target"] == metrics["per_label"]
    assert metrics["from"] == str(tmp_path / name)


def test_what_was_taken_is_a_dataset_that_describes_itself_and_that_students_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl")
    taken(tmp_path, path)
    (part,) = (tmp_path / "run/data").iterdir()
    assert part.name == "train-00000-of-00001.parquet"
    described = json.loads(pq.read_schema(part).metadata[b"huggingface"])["info"]["features"]
    assert described["label"] == {"names": list(NAMES), "_type": "ClassLabel"}
    read = dataset_rows(stage(tmp_path, {"path": str(path)}))
    assert read.select(["text", "label"]).to_pylist() == ROWS


def test_a_dataset_that_a_run_made_can_be_taken_into_another(tmp_path: Path) -> None:
    first = taken(tmp_path, jsonl(tmp_path / "rows.jsonl"))
    assert taken(tmp_path / "second", tmp_path / "run/data") == first


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "set/b.jsonl", ROWS[2:])
    jsonl(tmp_path / "set/a/z.jsonl", ROWS[:2])
    assert without_ids(taken(tmp_path, tmp_path / "set")) == ROWS


def test_numbers_are_labels_where_the_recipe_says_which(tmp_path: Path) -> None:
    rows = [
        {"text": "A treaty.", "class": 0},
        {"text": "A cup.", "class": 1},
        {"text": "A vote.", "class": "0"},
    ]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    found = taken(tmp_path, path, label="class", labels={"0": "World", "1": "Sports"})
    assert [row["label"] for row in found] == ["World", "Sports", "World"]
    # What the recipe says goes before what a Parquet file says.
    turned = taken(tmp_path / "turned", parquet(tmp_path / "r.parquet"), labels={"0": "Sports", "1": "World"})
    assert [row["label"] for row in turned] == ["Sports", "World", "Sports"]


def test_yaml_gives_the_labels_of_numbers(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    jsonl(tmp_path / "rows.jsonl")
    text = (
        yaml.safe_dump({"run": "r", "task": TASK})
        + "dataset: {path: rows.jsonl, labels: {0: World, 1: Sports}}"
    )
    path.write_text(text)
    recipe = load_recipe(path)
    assert recipe.dataset is not None
    assert recipe.dataset.labels == {"0": "World", "1": "Sports"}
    assert recipe.dataset.path == str(tmp_path / "rows.jsonl")


def test_parquet_labels_are_those_that_its_own_numbers_stand_for(tmp_path: Path) -> None:
    # The task has them in another order.
    rows = taken(tmp_path, parquet(tmp_path / "rows.parquet", names=("Sports", "World")))
    assert without_ids(rows) == ROWS


def test_a_task_of_two_fields_takes_each_from_its_column(tmp_path: Path) -> None:
    given = [
        {"premise": "It rains.", "hypothesis": "It is wet.", "label": "World", "more": 1},
        {"premise": "It rains.", "hypothesis": "It is dry.", "label": "Sports", "more": 2},
    ]
    rows = taken(tmp_path, jsonl(tmp_path / "rows.jsonl", given), PAIRS)
    assert without_ids(rows) == [
        {"text": row["premise"], "claim": row["hypothesis"], "label": row["label"]} for row in given
    ]
    assert len({row["id"] for row in rows}) == 2


def test_duplicates_stay_each_with_an_id_of_its_own(tmp_path: Path) -> None:
    twice = [ROWS[0], ROWS[1], ROWS[0], ROWS[0] | {"label": "Sports"}]
    rows = taken(tmp_path, jsonl(tmp_path / "rows.jsonl", twice))
    assert without_ids(rows) == twice
    assert len({row["id"] for row in rows}) == 4
    assert len({len(row["id"]) for row in rows}) == 1


def test_ids_are_of_the_content_whatever_path_and_order_it_comes_in(tmp_path: Path) -> None:
    twice = [*ROWS, ROWS[0]]
    here = taken(tmp_path / "one", jsonl(tmp_path / "rows.jsonl", twice))
    there = taken(tmp_path / "two", jsonl(tmp_path / "deep/er/other.jsonl", twice[::-1]))
    assert sorted(row["id"] for row in here) == sorted(row["id"] for row in there)
    assert {row["id"]: row["text"] for row in here} == {row["id"]: row["text"] for row in there}


def test_a_dataset_is_taken_in_once_wherever_it_has_moved_to(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl")
    first = taken(tmp_path, path)
    (part,) = (tmp_path / "run/data").iterdir()
    written = part.stat().st_mtime_ns
    moved = path.rename(tmp_path / "moved.jsonl")
    # Nor does it matter what would become of rows that cannot be used.
    assert taken(tmp_path, moved, bad_rows="refuse", refused_share=0.5) == first
    assert part.stat().st_mtime_ns == written


@pytest.mark.parametrize("change", ["rows", "label", "labels", "task"])
def test_other_rows_under_the_same_name_are_refused(tmp_path: Path, change: str) -> None:
    rows = [row | {"other": row["label"]} for row in ROWS]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    before = taken(tmp_path, path)
    dataset, task = dict[str, Any](), TASK
    if change == "rows":
        jsonl(path, [*rows, rows[0]])
    elif change == "label":
        dataset = {"label": "other"}
    elif change == "labels":
        dataset = {"labels": {"0": "World"}}
    else:
        task = TASK | {"labels": {"Sports": "sports news", "World": "world news"}}
    with pytest.raises(FingerprintError, match="was begun with other settings of dataset"):
        taken(tmp_path, path, task, **dataset)
    assert [row["id"] for row in taken(tmp_path, jsonl(path, rows))] == [row["id"] for row in before]


def test_a_run_that_took_nothing_in_may_still_be_given_other_rows(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"text": "A treaty.", "label": "Wrold"}])
    with pytest.raises(DataError, match="Wrold"):
        taken(tmp_path, path)
    assert without_ids(taken(tmp_path, jsonl(path))) == ROWS


def test_rows_that_a_teacher_wrote_are_not_taken_for_those_of_the_dataset(tmp_path: Path) -> None:
    run = stage(tmp_path, {"path": str(jsonl(tmp_path / "rows.jsonl"))})
    update_metrics(run.run, dataset={"rows": 5})
    assert run.recipe.dataset is not None
    with pytest.raises(FingerprintError):
        take_in(run, run.recipe.dataset)


def test_a_saved_dataset_says_itself_what_its_labels_are(tmp_path: Path) -> None:
    assert without_ids(taken(tmp_path, saved(tmp_path / "saved"))) == ROWS


def test_a_saved_dataset_is_read_with_labels_from_the_recipe(tmp_path: Path) -> None:
    rows = taken(tmp_path, saved(tmp_path / "saved"), labels={"0": "World", "1": "Sports"})
    assert without_ids(rows) == ROWS


def test_each_parquet_file_says_what_its_own_labels_are(tmp_path: Path) -> None:
    parquet(tmp_path / "set/a.parquet", rows=ROWS[:2])
    parquet(tmp_path / "set/b.parquet", names=NAMES[::-1], rows=ROWS[2:])
    assert without_ids(taken(tmp_path, tmp_path / "set")) == ROWS


def recipe(folder: Path, **more: Any) -> Path:
    path = folder / "recipe.yaml"
    jsonl(folder / "rows.jsonl")
    given = {"run": "r", "task": TASK, "dataset": {"path": "rows.jsonl"}}
    path.write_text(yaml.safe_dump(given | more, sort_keys=False))
    return path


def test_a_recipe_with_a_dataset_needs_no_method_teacher_or_targets(tmp_path: Path) -> None:
    found = load_recipe(recipe(tmp_path))
    assert (found.method.name, found.teacher.backend) == ("outside", "none")
    # Everything is in order, also for a verb that would ask a teacher.
    assert check(found).task.labels == NAMES


def test_without_a_dataset_they_are_needed_as_before(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="method: is required and missing"):
        load_recipe(recipe(tmp_path, dataset=None))


@pytest.mark.parametrize(
    "given",
    [
        {"method": {"name": "fewgen"}},
        {
            "dataset": None,
            "method": {"name": "outside"},
            "teacher": {"backend": "none"},
            "targets": {"rows_per_label": 1},
        },
    ],
)
def test_a_dataset_and_another_method_do_not_go_together(tmp_path: Path, given: Row) -> None:
    with pytest.raises(SettingsError, match="dataset and method outside go together, and with no other"):
        load_recipe(recipe(tmp_path, **given))


@pytest.mark.parametrize("given", [{"paht": "x"}, {"path": "x", "refused_share": 0}, {}])
def test_what_a_dataset_is_not_told_by_is_named(tmp_path: Path, given: Row) -> None:
    with pytest.raises(SettingsError, match=r"dataset\."):
        load_recipe(recipe(tmp_path, dataset=given))


def test_a_dataset_that_is_not_there_is_found_missing_before_anything_begins(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.jsonl"):
        check(load_recipe(recipe(tmp_path, dataset={"path": "absent.jsonl"})))
