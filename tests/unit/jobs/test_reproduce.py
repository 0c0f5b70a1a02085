"""The settings that a run records make the same run again."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.rundir import record_run
from cluster.storage import LocalStore
from jobs.recipe import Recipe, load_recipe
from jobs.report.reproduce import REPRODUCE
from synth.task import load_task

ROOT = Path(__file__).parents[3]
RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
TASK = {"name": "t", "instruction": "Sort.", "labels": {"a": "an a", "b": "a b"}}


def written(folder: Path, **changes: Any) -> Path:
    """A small recipe with some keys changed."""
    data: dict[str, Any] = {
        "run": "r",
        "task": TASK,
        "corpus": {"path": "docs.jsonl"},
        "index": {"encoder": {"model": "m", "preset": "minilm"}},
        "method": {"name": "fewgen"},
        "teacher": {"backend": "scripted"},
        "targets": {"rows_per_label": 2},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data | changes, allow_unicode=True), encoding="utf-8")
    return path


def dumped(recipe: Recipe, folder: Path) -> Path:
    """The resolved settings, as a dry run prints them, as a recipe in another folder."""
    path = folder / "resolved" / "recipe.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")
    return path


def reproduced(recipe: Recipe, folder: Path) -> Path:
    """The recipe that the command in a report writes from `run.json`."""
    record_run(LocalStore(folder / "run"), recipe.run, recipe.model_dump(mode="json"))
    command, _ = REPRODUCE.splitlines()
    command = f"{shlex.quote(sys.executable)} {command.removeprefix('python ')}"
    subprocess.run(command, shell=True, cwd=folder / "run", check=True)
    return folder / "run" / "recipe.yaml"


@pytest.mark.parametrize("again", [dumped, reproduced])
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_resolved_settings_of_every_shipped_recipe_give_the_same_recipe(
    path: Path, again: Any, tmp_path: Path
) -> None:
    recipe = load_recipe(path, ("targets.rows_per_label=3", "run=other"))
    twin = load_recipe(again(recipe, tmp_path))
    assert twin == recipe
    assert (twin.run, twin.targets.rows_per_label) == ("other", 3)


@pytest.mark.parametrize("again", [dumped, reproduced])
@pytest.mark.parametrize(
    "changes",
    [
        {"method": {"name": "fewgen", "stop": ["\n\n", "Text:"], "sampling": {"temperature": 1}}},
        {"method": {"name": "synthesizrr", "preset": "published_code", "similarity": [0.1, 0.2]}},
        {"teacher": {"backend": "scripted", "stall_on": "über", "refuse": 0.25}},
        {"teacher": {"backend": "vllm", "model": "org/model"}},
        {"students": [{"name": "s", "preset": "minilm", "learning_rate": 1e-5, "adam_epsilon": 1e-10}]},
        {"task": TASK | {"labels": {"yes": "a yes", "1": "a one"}, "style": "knapp – kühl 😀"}},
        {"license": "cc-by-4.0", "seeds_only": False, "store": "/somewhere"},
    ],
    ids=["method", "method preset", "scripted", "vllm", "student", "task", "rest"],
)
def test_resolved_settings_give_the_same_recipe(tmp_path: Path, again: Any, changes: dict[str, Any]) -> None:
    recipe = load_recipe(written(tmp_path, **changes))
    assert load_recipe(again(recipe, tmp_path)) == recipe


def test_a_resolved_auto_teacher_runs_as_the_first_one_did(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, teacher={"backend": "auto", "model": "m"}))
    assert load_recipe(dumped(recipe, tmp_path)).teacher.resolve() == recipe.teacher.resolve()


def test_a_resolved_inline_task_finds_its_files_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "seeds.jsonl").write_text('{"text": "x", "label": "a"}\n')
    monkeypatch.chdir(tmp_path)
    resolved = dumped(load_recipe(written(tmp_path, task=TASK | {"seeds": "seeds.jsonl"})), tmp_path)
    monkeypatch.chdir(resolved.parent)
    assert len(load_task(load_recipe(resolved).task, Path.cwd()).seeds) == 1
