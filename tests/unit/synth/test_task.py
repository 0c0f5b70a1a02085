"""Tasks: what a user's task file and gold rows may hold, and what is said where they hold something else."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import DataError, SettingsError, UserError
from synth.task import MAX_CHARACTERS, Task, load_task, load_test

LABELS = {"sport": "a match or an athlete", "trade": "companies and markets"}
ROW = {"text": "The striker scored twice.", "label": "sport"}


def given(folder: Path, rows: list[Any], **settings: Any) -> Task:
    """Write the rows to seeds.jsonl and load a task that names it."""
    (folder / "seeds.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    task = {"name": "news", "instruction": "Tell the topic.", "labels": LABELS, "seeds": "seeds.jsonl"}
    return load_task(task | settings, folder)


def refused(folder: Path, rows: list[Any]) -> str:
    with pytest.raises(DataError) as caught:
        given(folder, rows)
    return str(caught.value)


@pytest.mark.parametrize("phrase", ["", "  ", None])
def test_a_label_without_a_verbalizer_is_named_with_file_and_remedy(
    tmp_path: Path, phrase: str | None
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(json.dumps({"name": "n", "instruction": "i", "labels": LABELS | {"odd": phrase}}))
    with pytest.raises(SettingsError) as caught:
        load_task(Path("task.yaml"), tmp_path)
    assert str(caught.value) == f"{file}: labels: no verbalizer for odd; add a phrase that describes it"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"labels": ["sport", "trade"]}, "write each label with its verbalizer"),
        ({"labels": {"sport": "a match"}}, "at least two labels"),
        ({"fields": ["body"]}, "one field must be called text"),
        ({"text_typ": "Headline"}, "did you mean text_type?"),
        ({"instruction": ""}, "instruction"),
    ],
)
def test_a_task_that_cannot_be_worked_is_a_settings_error(
    tmp_path: Path, settings: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(SettingsError, match=r"^task: ") as caught:
        given(tmp_path, [ROW], **settings)
    assert said in str(caught.value)


def test_a_seed_of_unknown_label_is_named_with_file_row_and_the_known_labels(tmp_path: Path) -> None:
    said = refused(tmp_path, [ROW, {"text": "It rained.", "label": "weather"}])
    assert said == f"{tmp_path / 'seeds.jsonl'}:2: label 'weather' is unknown; the task has sport, trade"


@pytest.mark.parametrize(
    "row", [{"text": "no label"}, {"text": "x", "label": None}, {"text": "x", "label": 7}]
)
def test_a_label_that_is_missing_or_no_text_is_refused_with_its_row(tmp_path: Path, row: object) -> None:
    assert ":1: label " in refused(tmp_path, [row])


@pytest.mark.parametrize("text", [None, "", " \n ", 3, ["a"]])
def test_a_text_that_is_empty_or_no_text_is_refused_with_its_row(tmp_path: Path, text: object) -> None:
    said = refused(tmp_path, [ROW, ROW | {"text": text}])
    assert said == f"{tmp_path / 'seeds.jsonl'}:2: 'text' must be a text that is not empty"


def test_a_text_of_a_megabyte_is_refused_with_its_row_its_size_and_the_remedy(tmp_path: Path) -> None:
    said = refused(tmp_path, [ROW, ROW, ROW | {"text": "x" * 2**20}])
    assert said.startswith(f"{tmp_path / 'seeds.jsonl'}:3: 'text' has 1,048,576 characters")
    assert said.endswith("shorten or remove the row")
    assert len(said) < 300
    assert given(tmp_path, [ROW | {"text": "x" * MAX_CHARACTERS}]).seeds


def test_duplicate_seeds_count_once_whatever_space_surrounds_them(tmp_path: Path) -> None:
    spaced, other = ROW | {"text": f"  {ROW['text']}\n"}, ROW | {"label": "trade"}
    task = given(tmp_path, [ROW, other, ROW, spaced])
    assert [(seed.text, seed.label) for seed in task.seeds] == [
        (ROW["text"], "sport"),
        (ROW["text"], "trade"),
    ]
    assert len({seed.id for seed in task.seeds}) == 2


def test_a_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    for name in ("seeds.jsonl", "seeds.jsonl.gz", "seeds.jsonl.zst"):
        with pytest.raises(UserError) as caught:
            given(tmp_path, [], seeds=f"none/{name}")
        said = str(caught.value)
        assert said.startswith(f"{tmp_path / 'none' / name}: cannot be read (")
        assert "No such file or directory); check the path" in said
    with pytest.raises(SettingsError, match=r"absent\.yaml: cannot be read .*; check the path"):
        load_task(Path("absent.yaml"), tmp_path)


def test_a_file_without_rows_or_with_broken_rows_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path, []) == f"{tmp_path / 'seeds.jsonl'}: holds no rows"
    assert "seeds.jsonl:2: is not a JSON object" in refused(tmp_path, [ROW, ["a", "list"]])


def test_paths_in_a_task_file_start_at_that_file_and_test_rows_are_read_on_demand(tmp_path: Path) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "gold.jsonl").write_text(json.dumps(ROW))
    settings = {
        "name": "n",
        "instruction": "i",
        "labels": LABELS,
        "seeds": "gold.jsonl",
        "test": "gold.jsonl",
    }
    (folder / "task.yaml").write_text(json.dumps(settings))
    task = load_task(Path("deep/task.yaml"), tmp_path)
    assert load_test(task) == list(task.seeds)
    with pytest.raises(SettingsError, match=r"task\.test: names no file"):
        load_test(given(folder, [ROW]))
    assert task.labels == ("sport", "trade")
    assert [len(task.seeds_of(label)) for label in task.labels] == [1, 0]


def test_identity_covers_seeds_and_verbalizers_but_not_name_place_or_test_rows(tmp_path: Path) -> None:
    first = given(tmp_path, [ROW]).identity()
    assert given(tmp_path, [ROW], name="other", test="seeds.jsonl").identity() == first
    assert given(tmp_path, [ROW, ROW | {"text": "More."}]).identity() != first
    assert given(tmp_path, [ROW], labels=LABELS | {"sport": "games"}).identity() != first


def test_a_label_that_is_a_list_is_refused_with_its_row(tmp_path: Path) -> None:
    assert ":1: label " in refused(tmp_path, [{"text": "x", "label": ["sport"]}])


def test_a_text_that_utf_8_cannot_hold_is_refused_with_its_row(tmp_path: Path) -> None:
    assert ":1: " in refused(tmp_path, [ROW | {"text": "half an emoji \ud83d"}])


def test_labels_that_are_numbers_agree_between_task_and_rows(tmp_path: Path) -> None:
    task = given(tmp_path, [{"text": "x", "label": 0}], labels={0: "sport", 1: "trade"})
    assert task.seeds[0].label == "0"
