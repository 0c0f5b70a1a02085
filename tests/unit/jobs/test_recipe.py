from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.errors import SettingsError
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
    assert recipe.corpus is None or recipe.corpus.path.exists()


def test_paths_start_at_the_recipe_and_the_store_at_the_working_directory(tmp_path: Path) -> None:
    corpus = {"path": "../docs.jsonl"}
    recipe = load_recipe(written(tmp_path, task="t.yaml", corpus=corpus, index=INDEX, store="out"))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (tmp_path / "t.yaml", tmp_path / "../docs.jsonl")
    assert recipe.store == "out"


def test_absolute_paths_stay(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, task="/t.yaml", corpus={"path": "/docs"}, index=INDEX))
    assert recipe.corpus is not None
    assert (recipe.task, recipe.corpus.path) == (Path("/t.yaml"), Path("/docs"))


def test_a_given_value_wins_over_the_preset_of_its_method(tmp_path: Path) -> None:
    method = {"name": "synthesizrr", "preset": "published_code", "document_tokens": 77}
    path = written(tmp_path, method=method, corpus={"path": "docs"}, index=INDEX)
    dump = load_recipe(path, ("method.pieces=first",)).method.model_dump()
    assert (dump["document_tokens"], dump["pieces"], dump["shot_similarity"]) == (77, "first", (0.5, 0.9))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corpus": {"path": "docs"}}, "corpus and index go together"),
        ({"index": INDEX}, "corpus and index go together"),
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
