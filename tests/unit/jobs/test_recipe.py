from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import ModelError, SettingsError
from cluster.models import resolve_model
from jobs.recipe import load_recipe

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
TASK = {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}}
INDEX = {"encoder": {"model": "m", "preset": "minilm"}}


def written(folder: Path, **changes: Any) -> Path:
    """A small recipe with some keys changed."""
    data: dict[str, Any] = {
        "run": "r",
        "task": TASK,
        "method": {"name": "fewgen"},
        "teacher": {"backend": "scripted"},
        "targets": {"rows_per_label": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data | changes, allow_unicode=True), encoding="utf-8")
    return path


def test_there_are_recipes() -> None:
    assert RECIPES


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads_and_its_files_are_there(path: Path) -> None:
    recipe = load_recipe(path)
    assert isinstance(recipe.task, Path) and recipe.task.is_file()
    assert recipe.corpus is None or Path(recipe.corpus.path).exists()


def test_paths_start_at_the_recipe_and_the_store_at_the_working_directory(tmp_path: Path) -> None:
    corpus = {"path": "../docs.jsonl"}
    recipe = load_recipe(written(tmp_path, task="t.yaml", corpus=corpus, index=INDEX, store="out"))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (
        tmp_path / "t.yaml",
        str(tmp_path / "../docs.jsonl"),
    )
    assert recipe.store == "out"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, task="/t.yaml", corpus={"path": "/docs"}, index=INDEX))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (Path("/t.yaml"), "/docs")


def test_a_given_value_wins_over_the_preset_of_its_method(tmp_path: Path) -> None:
    method = {"name": "synthesizrr", "preset": "published_code", "document_tokens": 77}
    path = written(tmp_path, method=method, corpus={"path": "docs"}, index=INDEX)
    dump = load_recipe(path, ("method.pieces=first",)).method.model_dump()
    assert (dump["document_tokens"], dump["pieces"], dump["shot_similarity"]) == (77, "first", (0.5, 0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": {"path": "docs"}}, "corpus: add index"),
        (
            {"corpus": {"path": "docs"}, "index": {"name": "n"}},
            "index.encoder: retriever.kind dense needs one",
        ),
        ({"method": {"name": "synthesizrr"}}, "method synthesizrr retrieves; add corpus and index"),
        ({"method": {"name": "fewgen", "preset": "best"}}, "preset: 'best' is unknown; known: "),
        (
            {"students": [{"name": "s", "preset": "minilm"}, {"name": "s", "preset": "distilbert"}]},
            "students: two have the same name",
        ),
        ({"run": "a/b"}, "run: "),
        ({"run": ""}, "run: "),
        ({"targets": {"rows_per_label": 1, "ceiling": 0.5}}, "targets.ceiling: "),
        ({"task": 5}, "task"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_file(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = written(tmp_path, **changes)
    with pytest.raises(SettingsError) as error:
        load_recipe(path)
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize("key", ["run", "task", "method", "teacher", "targets"])
def test_what_a_recipe_can_not_do_without_is_named(tmp_path: Path, key: str) -> None:
    path = written(tmp_path)
    data = yaml.safe_load(path.read_text())
    del data[key]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(SettingsError, match=f"{key}: is required and missing"):
        load_recipe(path)


def test_a_model_folder_is_found_from_any_folder_and_other_names_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    index = {"encoder": {"model": "weights", "preset": "minilm"}}
    teacher = {"backend": "vllm", "model": "weights"}
    recipe = load_recipe(written(tmp_path, corpus={"path": "docs"}, index=index, teacher=teacher))
    assert recipe.index is not None
    assert recipe.teacher.model == recipe.index.encoder.model == str(tmp_path / "weights")
    for name in ("org/model", "package:some/file.gguf", "s3://bucket/weights"):
        assert load_recipe(written(tmp_path, teacher=teacher | {"model": name})).teacher.model == name


def test_the_model_folder_of_a_student_is_found_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe(written(tmp_path, students=[{"name": "s", "base": "weights"}]))
    assert recipe.students[0].base == str(tmp_path / "weights")


@pytest.mark.parametrize("use", [resolve_model, "recipe"])
def test_a_model_name_that_the_file_system_refuses_is_the_users_mistake(tmp_path: Path, use: Any) -> None:
    name = "x" * 300
    with pytest.raises(ModelError, match=name) as error:
        if use == "recipe":
            resolve_model(
                load_recipe(written(tmp_path, teacher={"backend": "vllm", "model": name})).teacher.model
            )
        else:
            resolve_model(name)
    assert error.value.exit_code == 2
